"""Says in the broker's log who blocks the event loop, for how long, and where.

A thread of its own asks the loop to answer, again and again, and looks at what the loop's thread does where
the answer does not come. It also tells the plugin that Python runs at all; while something holds Python's
global lock, this thread cannot say anything, and the plugin does.
"""

from __future__ import annotations

import contextlib
import inspect
import linecache
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from types import CodeType, FrameType, TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

if TYPE_CHECKING:
    from .consumer import Consumer
    from .service import Runtime

#: Seconds between two questions to the loop, at most and at least; between these, a quarter of the limit.
INTERVAL_MAX, INTERVAL_MIN = 1.0, 0.01
#: Where the watchdog itself was late by more seconds than this, either something held Python's global lock,
#: or the whole process was stopped: the plugin knows.
LATE = 1.0
#: Frames that a stack in the log has at most.
STACK_MAX = 30
#: Threads beside the loop's that are named at most.
THREADS_MAX = 8
#: Packages whose frames at the outer end of a stack say nothing about the application.
FRAMEWORK = frozenset(("mqttasgi", "asyncio", "channels", "asgiref", "selectors"))

#: Where the consumer class has the event that it handles in a local variable.
HANDLERS = frozenset(("dispatch", "_handle_events", "_handle_locked"))

#: File, line, function.
Place = tuple[str, int, str]


class Watchdog:
    """Watches the loop of a runtime while it is entered, which is done on the loop's thread."""

    def __init__(self, runtime: Runtime, limit: float, run: CodeType) -> None:
        """
        Args:
            runtime: Whose loop, consumers and log.
            limit: Seconds for which the loop may be blocked before the log says so; 0: any time.
            run: The code that has a consumer in its local variable `consumer` and awaits its application.
        """
        self._runtime = runtime
        self._bridge = runtime.bridge
        self._limit = limit
        self._run_code = run
        self._interval = min(INTERVAL_MAX, max(INTERVAL_MIN, limit / 4))
        self._ended = threading.Event()
        self._thread: Optional[threading.Thread] = None
        self._loop_thread = threading.get_ident()
        #: When the loop was asked; None: no question is open.
        self._asked: Optional[float] = None
        #: When it answered that; None: it has not.
        self._answered: Optional[float] = None
        #: The log knows that the loop is blocked.
        self._is_told = False

    def __enter__(self) -> None:
        if self._limit <= 0:
            return
        self._loop_thread = threading.get_ident()
        self._thread = threading.Thread(target=self._watch, name="mqttasgi-watchdog", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            self._thread = None
            self._bridge.log(
                self._bridge.LOG_WARNING,
                f"No watchdog: {error}. Nothing else depends on it (plugin_opt_watchdog).",
            )

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        where: Optional[TracebackType],
    ) -> None:
        """Ends the thread without waiting for it: nothing may hold up the broker's end."""
        self._ended.set()

    # ---- the watchdog's thread ----

    def _watch(self) -> None:
        try:
            due = time.monotonic()
            while not self._ended.wait(max(0.0, due - time.monotonic())):
                now = time.monotonic()
                self.look(now, now - due)
                due = time.monotonic() + self._pause()
        except Exception as error:
            if not self._ended.is_set():
                self._runtime.log_exception("The watchdog ends with an error; consumers go on.", error)
        finally:
            self._bridge.rest()

    def _pause(self) -> float:
        """Seconds until the next look is due."""
        if self._asked is None or self._is_told:
            return self._interval
        return min(self._interval, max(0.0, self._asked + self._limit - time.monotonic()))

    def look(self, now: float, late: float) -> None:
        """Compares the loop's answer with the question, and asks anew.

        Args:
            now: What the clock says.
            late: For how many seconds the watchdog was kept from looking.
        """
        # First of all: whatever gives up the global lock lets the loop go on, and then there is less to see.
        sight = self._see() if self._is_news(now, late) else None
        silence = self._bridge.beat()
        stopped, kept = 0.0, 0.0
        if late > LATE:
            stopped = max(0.0, late - silence)
            kept = late - stopped
        held = kept >= self._limit
        if self._asked is not None:
            self._asked += stopped
            answered = self._answered
            if answered is None:
                self._judge(now, sight, held)
                return
            self._judge(answered, None, held)
            kept = min(kept, now - answered)
            self._is_told = False
        # While the watchdog was kept away, so was the loop.
        self._asked, self._answered = now - kept, None
        self._judge(now, sight, held)
        self._ask()

    def _is_news(self, now: float, late: float) -> bool:
        """Whether it may turn out that the loop is blocked, and the log does not know yet.

        Frames are not looked at without need: what is held here a moment longer than by its owner is freed
        here, by a thread that it does not expect.
        """
        if self._answered is None and self._is_told:
            return False
        if late > LATE and late >= self._limit:
            return True
        return self._asked is not None and self._answered is None and now - self._asked >= self._limit

    def _ask(self) -> None:
        # The loop may be closed, by an application that does that.
        with contextlib.suppress(RuntimeError):
            self._runtime.loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        """On the loop's thread."""
        self._answered = time.monotonic()

    def _judge(self, until: float, sight: Optional[_Sight], held: bool) -> None:
        """Tells of the time from the question until then, if there is something to tell.

        Args:
            until: When the loop answered; if it has not, what the clock says.
            sight: What its thread did; None where nobody looked, because it had answered, for one.
            held: Python did not run at all, so that was the moment after.
        """
        assert self._asked is not None
        waited = max(0.0, until - self._asked)
        self._bridge.raise_to("loop/longest_block", int(waited * 1000))
        if self._is_told:
            if self._answered is not None:
                self._bridge.log(
                    self._bridge.LOG_WARNING, f"The event loop reacts again, after {waited:.1f} s."
                )
        elif waited >= self._limit:
            self._is_told = True
            if sight is not None:
                self._runtime.log("\n".join(_report(sight, waited, held)))
            else:
                self._bridge.log(
                    self._bridge.LOG_WARNING,
                    f"The event loop did not react for {waited:.1f} s. What blocked it ended before it could "
                    "be seen.",
                )

    # ---- what the loop's thread does ----

    def _see(self) -> _Sight:
        frames = list(_outwards(sys._current_frames().get(self._loop_thread)))
        # What the frames hold is the application's, and may do anything when it is looked at.
        try:
            who, consumer = self._culprit(frames)
        except Exception:
            who, consumer = "Something that cannot be named blocks the event loop", None
        shown = _inner(frames) or frames
        return _Sight(
            who,
            [_place(frame) for frame in reversed(shown[:STACK_MAX])],
            max(0, len(shown) - STACK_MAX),
            [] if consumer is not None else self._other_threads(),
        )

    def _culprit(self, frames: list[FrameType]) -> tuple[str, Optional[Consumer]]:
        """The beginning of a sentence, and the consumer, where there is one. The innermost frame is first."""
        event: Optional[str] = None
        owner: Optional[Consumer] = None
        for frame in frames:
            code = frame.f_code
            if code is self._run_code:
                consumer = frame.f_locals["consumer"]
                if event is None and consumer.topic is not None:
                    event = _message_on(consumer.topic)
                return _blocks(consumer, event), consumer
            instance = _self_of(frame)
            if instance is None:
                continue
            found = self._consumer_of(instance)
            if code.co_name in HANDLERS and _is_framework(frame):
                event = event or _event(frame.f_locals.get("message"))
                owner = found or owner
            elif owner is None:
                owner = found
        # With a channel layer, a consumer handles its events in tasks of their own.
        if owner is not None and event is not None:
            return _blocks(owner, event), owner
        if owner is not None:
            return f"A task of consumer {owner} blocks the event loop", owner
        if _inner(frames):
            return "A task that the application started blocks the event loop", None
        return "Something other than a consumer blocks the event loop", None

    def _consumer_of(self, instance: Any) -> Optional[Consumer]:
        # Without a look at what the class has made of its attributes: that would run its code on this thread.
        scope = object.__getattribute__(instance, "__dict__").get("scope")
        return self._runtime.find(scope.get("app_id")) if type(scope) is dict else None

    def _other_threads(self) -> list[str]:
        """Where the others are, of which one may hold the global lock."""
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        return [
            "  Thread {}: {}, line {}, in {}".format(names.get(ident, ident), *_place(frame))
            for ident, frame in list(sys._current_frames().items())
            if ident not in (self._loop_thread, threading.get_ident())
        ][:THREADS_MAX]


class _Sight(NamedTuple):
    """What the loop's thread was seen to do, without the frames."""

    #: The beginning of a sentence.
    who: str
    #: File, line and function, from the outermost inwards.
    places: list[Place]
    #: How many of the outermost are left out.
    omitted: int
    #: Where Python's other threads were, unless a consumer was at work.
    others: list[str]


def _report(sight: _Sight, waited: float, held: bool) -> list[str]:
    """The lines for the log."""
    text = f"{sight.who}: the loop has not reacted for {waited:.1f} s. "
    if held:
        text += (
            "Python did not run at all; where something keeps its global lock, a thread would not change "
            "that, but another process would. This is where it was right after:"
        )
    else:
        text += (
            "No consumer gets anything meanwhile; the broker and its clients go on. What takes long belongs "
            "in a thread: await asyncio.to_thread(). This is where it is:"
        )
    lines = [text]
    if sight.omitted:
        lines.append(f"  ({sight.omitted} frames further out)")
    lines += _format(sight.places)
    if held and sight.others:
        lines += ["Python's other threads, of which one may have held the lock:", *sight.others]
    return lines


def _format(places: list[Place]) -> list[str]:
    """As in a traceback."""
    try:
        for file in {place[0] for place in places}:
            linecache.checkcache(file)
        stack = traceback.StackSummary.from_list(
            [traceback.FrameSummary(*place, lookup_line=False) for place in places]
        )
        return "".join(stack.format()).splitlines()
    except Exception:
        return ['  File "{}", line {}, in {}'.format(*place) for place in places]


def _blocks(consumer: Consumer, event: Optional[str]) -> str:
    return f"Consumer {consumer} blocks the event loop" + (f", handling {event}" if event else "")


def _message_on(topic: str) -> str:
    return f"a message on topic {topic!r:.400}"


def _event(message: Any) -> Optional[str]:
    """What an event is, in words."""
    if type(message) is not dict:
        return None
    kind, mqtt = message.get("type"), message.get("mqtt")
    if kind == "mqtt.msg" and type(mqtt) is dict and type(mqtt.get("topic")) is str:
        return _message_on(mqtt["topic"])
    return f"an event of type {kind!r:.100}" if type(kind) is str else None


def _self_of(frame: FrameType) -> Any:
    """The MqttConsumer whose method a frame runs, if it is one."""
    code = frame.f_code
    # The class is the application's to import. Only a function's names are in a mapping of Python's own.
    module = sys.modules.get("mqttasgi.consumers")
    if module is None or not code.co_flags & inspect.CO_OPTIMIZED:
        return None
    if "self" not in code.co_varnames and "self" not in code.co_freevars:
        return None
    instance = frame.f_locals.get("self")
    return instance if issubclass(type(instance), module.MqttConsumer) else None


def _outwards(frame: Optional[FrameType]) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_framework(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__")
    return type(name) is str and name.partition(".")[0] in FRAMEWORK


def _inner(frames: list[FrameType]) -> list[FrameType]:
    """Without the outer frames, which are the same whatever the application does."""
    end = len(frames)
    while end and _is_framework(frames[end - 1]):
        end -= 1
    return frames[:end]


def _place(frame: FrameType) -> Place:
    return frame.f_code.co_filename, frame.f_lineno or 0, frame.f_code.co_name
