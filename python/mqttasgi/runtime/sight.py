"""What the event loop's thread does, and for whom, as another thread sees it in its frames."""

from __future__ import annotations

import inspect
import linecache
import sys
import threading
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

if TYPE_CHECKING:
    from .consumer import HostedConsumer
    from .roster import Roster

#: Frames that a stack in the log has at most.
STACK_MAX = 30
#: Threads beside the loop's that are named at most.
THREADS_MAX = 8
#: Packages whose frames at the outer end of a stack say nothing about the application.
FRAMEWORK = frozenset(("mqttasgi", "asyncio", "channels", "asgiref", "selectors", "uvicorn"))

#: File, line, function.
Place = tuple[str, int, str]


class Sight(NamedTuple):
    """What the loop's thread was seen to do, without the frames."""

    #: The beginning of a sentence.
    who: str
    #: File, line and function, from the outermost inwards.
    places: list[Place]
    #: How many of the outermost are left out.
    omitted: int
    #: Where Python's other threads were, unless a consumer was at work.
    others: list[str]

    def report(self, waited: float, held: bool) -> list[str]:
        """Return the lines for the log.

        Args:
            waited: For how many seconds the loop has not reacted.
            held: Python did not run at all, so this was the moment after.
        """
        text = f"{self.who}: the loop has not reacted for {waited:.1f} s. "
        if held:
            text += (
                "Python did not run at all; where something keeps its global lock, a thread would not change "
                "that, but another process would. This is where it was right after:"
            )
        else:
            text += (
                "No consumer gets anything meanwhile; the broker and its clients go on. What takes long "
                "belongs in a thread: await asyncio.to_thread(). This is where it is:"
            )
        lines = [text]
        if self.omitted:
            lines.append(f"  ({self.omitted} frames further out)")
        lines += _format(self.places)
        if held and self.others:
            lines += ["Python's other threads, of which one may have held the lock:", *self.others]
        return lines


def _format(places: list[Place]) -> list[str]:
    """Format them as in a traceback."""
    try:
        for file in {place[0] for place in places}:
            linecache.checkcache(file)
        stack = traceback.StackSummary.from_list(
            [traceback.FrameSummary(*place, lookup_line=False) for place in places]
        )
        return "".join(stack.format()).splitlines()
    except Exception:
        return ['  File "{}", line {}, in {}'.format(*place) for place in places]


def look_at(thread: int, roster: Roster) -> Sight:
    """Return what a thread does, as seen from another one."""
    frames = list(_outwards(sys._current_frames().get(thread)))
    # What the frames hold is the application's, and may do anything when it is looked at.
    try:
        who, consumer = _culprit(frames, roster)
    except Exception:
        who, consumer = "Something that cannot be named blocks the event loop", None
    shown = _inner(frames) or frames
    return Sight(
        who,
        [_place(frame) for frame in reversed(shown[:STACK_MAX])],
        max(0, len(shown) - STACK_MAX),
        [] if consumer is not None else _other_threads(thread),
    )


# ---- whose fault ----


def _culprit(frames: list[FrameType], roster: Roster) -> tuple[str, Optional[HostedConsumer]]:
    """Return the beginning of a sentence, and the consumer if there is one. The innermost frame is first."""
    event: Optional[str] = None
    owner: Optional[HostedConsumer] = None
    for frame in frames:
        consumer = roster.run_in(frame)
        if consumer is not None:
            topic = consumer.run.topic if consumer.run is not None else None
            if event is None and topic is not None:
                event = _message_on(topic)
            return _blocks(consumer, event), consumer
        request = _request_in(frame)
        if request is not None:
            return f"{request} blocks the event loop", None
        instance = _consumer_class_in(frame)
        if instance is None:
            continue
        found = _consumer_of(instance, roster)
        if frame.f_code.co_name == "dispatch":
            event = event or _event(_argument(frame, 1))
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


def _request_in(frame: FrameType) -> Optional[str]:
    """Return which request or WebSocket is served in this frame."""
    front = sys.modules.get("mqttasgi.runtime.web.front")
    if front is None:
        return None
    scope = _argument(frame, 1) if frame.f_code is front.FRONT_CODE else _django_request_in(frame)
    if type(scope) is not dict:
        return None
    kind = f"The request {scope.get('method')}" if scope.get("type", "http") == "http" else "The WebSocket"
    return f"{kind} {scope.get('path')!r:.400}"


def _django_request_in(frame: FrameType) -> Any:
    """Return the attributes of the request that a view or a middleware runs for; None: there is none.

    Django lets them run in a task of their own.
    """
    module = sys.modules.get("django.http.request")
    if module is None or not frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        return None
    for position in range(min(2, frame.f_code.co_argcount)):
        value = _argument(frame, position)
        if issubclass(type(value), module.HttpRequest):
            return object.__getattribute__(value, "__dict__")
    return None


def _consumer_of(instance: Any, roster: Roster) -> Optional[HostedConsumer]:
    # Without a look at what the class has made of its attributes: that would run its code on this thread.
    scope = object.__getattribute__(instance, "__dict__").get("scope")
    return roster.find(scope.get("app_id")) if type(scope) is dict else None


def _other_threads(thread: int) -> list[str]:
    """Return where the others are, of which one may hold the global lock."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return [
        "  Thread {}: {}, line {}, in {}".format(names.get(ident, ident), *_place(frame))
        for ident, frame in list(sys._current_frames().items())
        if ident not in (thread, threading.get_ident())
    ][:THREADS_MAX]


def _blocks(consumer: HostedConsumer, event: Optional[str]) -> str:
    return f"Consumer {consumer} blocks the event loop" + (f", handling {event}" if event else "")


def _message_on(topic: str) -> str:
    return f"a message on topic {topic!r:.400}"


def _event(message: Any) -> Optional[str]:
    """Say what an event is, in words."""
    if type(message) is not dict:
        return None
    kind, mqtt = message.get("type"), message.get("mqtt")
    if kind == "mqtt.msg" and type(mqtt) is dict and type(mqtt.get("topic")) is str:
        return _message_on(mqtt["topic"])
    return f"an event of type {kind!r:.100}" if type(kind) is str else None


def _consumer_class_in(frame: FrameType) -> Any:
    """Return the MqttConsumer whose method a frame runs, or a function in one; None: something else."""
    code = frame.f_code
    # The class is the application's to import. Only a function's names are in a mapping of Python's own.
    module = sys.modules.get("mqttasgi.consumers")
    if module is None or not code.co_flags & inspect.CO_OPTIMIZED:
        return None
    for name in (*code.co_varnames[: min(1, code.co_argcount)], *code.co_freevars):
        value = frame.f_locals.get(name)
        if issubclass(type(value), module.MqttConsumer):
            return value
    return None


def _argument(frame: FrameType, position: int) -> Any:
    """Return what a function was called with, whatever it calls that; None where it takes fewer."""
    code = frame.f_code
    return frame.f_locals.get(code.co_varnames[position]) if position < code.co_argcount else None


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
