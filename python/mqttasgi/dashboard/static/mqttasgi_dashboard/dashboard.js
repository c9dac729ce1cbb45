/* What htmx does not do by itself: to say whether the page is live, and to keep what somebody has in the hands
 * (focus, open details, places scrolled to) while parts of the page are replaced. */
"use strict";
(() => {
  const MOST_LINES = 1000;
  let kept = null;

  function say(text, state) {
    const status = document.getElementById("connection");
    if (status && status.dataset.state !== state) {
      status.dataset.state = state;
      status.textContent = text;
    }
  }

  document.addEventListener("htmx:wsOpen", () => {
    document.documentElement.classList.add("is-live");
    say("Live", "open");
  });
  document.addEventListener("htmx:wsClose", (event) => {
    document.documentElement.classList.remove("is-live");
    const status = document.getElementById("connection");
    if (event.detail.event.code >= 4000) {
      say(status ? status.dataset.closed : "", "ended");
    } else {
      say("Connection lost, trying again …", "closed");
    }
  });

  document.addEventListener("htmx:wsBeforeMessage", () => {
    const log = document.getElementById("log");
    kept = {
      focus: document.activeElement && document.activeElement.id,
      details: Array.from(document.querySelectorAll("details[id]"), (each) => [each.id, each.open]),
      atEnd: log && log.scrollHeight - log.scrollTop - log.clientHeight < 40,
    };
  });
  document.addEventListener("htmx:wsAfterMessage", () => {
    for (const [id, open] of kept.details) {
      const details = document.getElementById(id);
      if (details) details.open = open;
    }
    if (kept.focus && (!document.activeElement || document.activeElement === document.body)) {
      const element = document.getElementById(kept.focus);
      if (element) element.focus({ preventScroll: true });
    }
    const log = document.getElementById("log");
    if (log) {
      while (log.childElementCount > MOST_LINES) log.firstElementChild.remove();
      if (kept.atEnd) log.scrollTop = log.scrollHeight;
    }
  });

  document.addEventListener("submit", (event) => {
    const asked = event.submitter?.dataset.confirm || event.target.dataset.confirm;
    if (asked && !window.confirm(asked)) event.preventDefault();
  }, true);

  document.addEventListener("DOMContentLoaded", () => {
    const log = document.getElementById("log");
    if (log) log.scrollTop = log.scrollHeight;
  });
})();
