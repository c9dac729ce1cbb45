/* Shows what comes by the WebSocket, as text and as nothing else; sends clicks without leaving the page. */
"use strict";
(() => {
  const NOT_ALLOWED = 4403;
  const LONGEST_PAUSE = 10000;
  const places = new Map();
  const connection = document.getElementById("connection");
  const problem = document.getElementById("problem");
  let pause = 500;

  for (const place of document.querySelectorAll("[data-name]")) {
    places.set(`${place.closest("[data-part]").dataset.part}/${place.dataset.name}`, place);
  }

  function show(part, name, text) {
    const place = places.get(`${part}/${name}`);
    if (!place) return;
    if (place instanceof SVGPathElement) {
      place.setAttribute("d", text);
      return;
    }
    place.textContent = text;
    if (place instanceof HTMLButtonElement) {
      place.setAttribute("aria-checked", String(text === "on"));
      place.value = text === "on" ? "off" : "on";
    }
  }

  function say(text, state) {
    connection.textContent = text;
    connection.className = state;
  }

  function open() {
    const url = new URL("/live/", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = new WebSocket(url);
    socket.addEventListener("open", () => {
      pause = 500;
      say("Live", "open");
    });
    socket.addEventListener("message", (event) => {
      for (const [part, texts] of Object.entries(JSON.parse(event.data))) {
        for (const [name, text] of Object.entries(texts)) show(part, name, text);
      }
    });
    socket.addEventListener("close", (event) => {
      if (event.code === NOT_ALLOWED) {
        say("Logged out. Reload the page to log in.", "closed");
        return;
      }
      say("Connection lost, trying again …", "closed");
      setTimeout(open, pause);
      pause = Math.min(2 * pause, LONGEST_PAUSE);
    });
  }

  async function send(form, button) {
    const body = new URLSearchParams(new FormData(form));
    body.set(button.name, button.value);
    try {
      const answer = await fetch(form.action, { method: "POST", body });
      // Somebody who has logged out is led to another page.
      if (new URL(answer.url).pathname !== location.pathname && answer.ok) location.reload();
      problem.textContent = answer.ok ? "" : "The house did not take that.";
    } catch {
      problem.textContent = "The house does not answer.";
    }
  }

  document.addEventListener("submit", (event) => {
    if (!event.submitter || !("live" in event.target.dataset)) return;
    event.preventDefault();
    send(event.target, event.submitter);
  });
  open();
})();
