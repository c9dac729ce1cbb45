"""Finds what is wrong with an application before it runs, where Python alone would say it late or never."""

from __future__ import annotations

import difflib
import dis
import inspect
import logging
import types
from collections.abc import Iterable
from typing import Any, Optional

from .application import ApplicationError

logger = logging.getLogger("mqttasgi.consumers")

#: Classes without receive() of which the log has said so.
_said: set[type] = set()


class ConsumerError(ApplicationError, TypeError):
    """A consumer class that cannot work, found where it is defined or given to the runtime."""


# ---- methods ----


def check_methods(consumer: type, awaited: Iterable[str]) -> None:
    """Refuse a consumer with a method among these names that cannot be awaited. Raises `ConsumerError`."""
    for name in awaited:
        wrong = what_is_wrong_with(inspect.getattr_static(consumer, name, None))
        if wrong is not None:
            raise ConsumerError(wrong)


def what_is_wrong_with(function: Any) -> Optional[str]:
    """Return the sentence about a function that certainly cannot be awaited; None: it can, or may."""
    if not isinstance(function, types.FunctionType) or hasattr(function, "__wrapped__"):
        return None
    if function.__code__.co_flags & (inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE):
        return None
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return f"{described(function)} has a yield in it, so it cannot be awaited; it must not yield anything"
    # One that returns something may well return a coroutine.
    return is_not_async(function) if _returns_nothing(function.__code__) else None


def is_not_async(function: Any) -> str:
    """Return the sentence about a function that has returned None where something to await was wanted."""
    return f"{described(function)} is not async; write `async def {getattr(function, '__name__', '…')}`"


def described(function: Any) -> str:
    """Return a function's name and place."""
    function = inspect.unwrap(getattr(function, "__func__", function))
    name = getattr(function, "__qualname__", None) or repr(function)
    code = getattr(function, "__code__", None)
    return f"{name}() ({code.co_filename}, line {code.co_firstlineno})" if code is not None else f"{name}()"


def _returns_nothing(code: types.CodeType) -> bool:
    """Whether it returns, and None wherever it does; False where that is not certain."""
    returns = False
    before: Optional[dis.Instruction] = None
    for instruction in dis.get_instructions(code):
        # From Python 3.12 to 3.13 in one, else in two.
        value = {"RETURN_CONST": instruction, "RETURN_VALUE": before}.get(instruction.opname)
        if value is not None:
            if value.opname not in ("RETURN_CONST", "LOAD_CONST") or value.argval is not None:
                return False
            if instruction is not value and instruction.is_jump_target:
                return False  # `return a if b else None`
            returns = True
        before = instruction
    return returns


def say_that_receive_is_missing(consumer: type, topic: str) -> None:
    """Warn, once for each class, of messages that nobody handles."""
    if consumer in _said:
        return
    _said.add(consumer)
    own = [name for name, found in vars(consumer).items() if callable(found)]
    close = difflib.get_close_matches("receive", own, 1)
    logger.warning(
        "%s.%s gets messages, the first on topic %r, and has no method receive(self, mqtt_message) to handle "
        "them; they are dropped.%s",
        consumer.__module__,
        consumer.__qualname__,
        topic,
        f" It has {close[0]}(): did you mean that?" if close else "",
    )


# ---- classes ----


def is_called_as_application(arguments: tuple[Any, ...]) -> bool:
    """Whether an object is about to be made of what an ASGI application is called with."""
    return len(arguments) == 3 and isinstance(arguments[0], dict) and "type" in arguments[0]


def needs_as_asgi(consumer: type) -> str:
    """Return the sentence about a consumer's class in the place of an application."""
    name = consumer.__name__
    return f"{consumer.__module__}.{name} is a class and no ASGI application; write {name}.as_asgi()"


# ---- applications ----


def check_application(path: str, found: Any) -> None:
    """Refuse what can be called but will not be an application for MQTT. Raises `ApplicationError`."""
    modules = {base.__module__ for base in type(found).__mro__}
    if "django.core.handlers.asgi" in modules:
        raise ApplicationError(
            f"{path!r} is Django's own application, which answers HTTP alone; put it beside a consumer: "
            'ProtocolTypeRouter({"http": get_asgi_application(), "mqtt": MyConsumer.as_asgi()})'
        )
    if "django.core.handlers.wsgi" in modules:
        raise ApplicationError(
            f"{path!r} is a WSGI application, which answers HTTP alone; name the one in asgi.py"
        )
    routes = getattr(found, "application_mapping", None)
    if isinstance(routes, dict):
        _check_routes(path, routes)
        return
    wrong = what_is_wrong_with(found) or _is_as_asgi(found)
    if wrong is not None:
        raise ApplicationError(f"{path!r} is no ASGI application: {wrong}")


def _check_routes(path: str, routes: dict[str, Any]) -> None:
    """Check those of a ProtocolTypeRouter."""
    if "mqtt" not in routes:
        raise ApplicationError(
            f'{path!r} has no "mqtt" among its protocols ({", ".join(map(repr, routes)) or "none"}); add '
            '"mqtt": MyConsumer.as_asgi() to its ProtocolTypeRouter'
        )
    route = routes["mqtt"]
    if inspect.isclass(route) and hasattr(route, "as_asgi"):
        raise ApplicationError(f'"mqtt" in {path!r}: {needs_as_asgi(route)}')
    if not callable(route):
        raise ApplicationError(f'"mqtt" in {path!r} is {route!r}, which is not an ASGI application')
    wrong = what_is_wrong_with(route) or _is_as_asgi(route)
    if wrong is not None:
        raise ApplicationError(f'"mqtt" in {path!r} is no ASGI application: {wrong}')


def _is_as_asgi(found: Any) -> Optional[str]:
    """Return the sentence about `MyConsumer.as_asgi` without its parentheses."""
    if inspect.ismethod(found) and found.__name__ == "as_asgi":
        name = f"{getattr(found.__self__, '__name__', 'MyConsumer')}.as_asgi"
        return f"{name} is to be called; write {name}()"
    return None
