"""Finds ASGI applications by name."""

from __future__ import annotations

import importlib
from typing import Any

from .._types import Application


class ApplicationError(Exception):
    """The application cannot be had; the text is a sentence for who set it up."""


def load_application(path: str) -> Application:
    """Import the application that `path` names.

    `path` is `package.module:name` or, as `spawn_worker` takes it, `package.module.Name`; a consumer class
    stands for its `as_asgi()`. Raises `ApplicationError` when there is no such module or attribute, and
    whatever the import itself raises.
    """
    module_name, colon, attribute = path.partition(":")
    if not colon:
        module_name, _, attribute = path.rpartition(".")
    if not module_name or not attribute:
        raise ApplicationError(
            f"{path!r} does not name an application: it must look like package.module:name"
        )
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # Only where the named module itself, or a package it is in, is what was not found.
        if error.name and (module_name + ".").startswith(error.name + "."):
            raise ApplicationError(
                f"there is no module {error.name!r} to import {path!r} from; python_path must list the "
                "folder that it is in, and virtualenv the environment that it is installed in"
            ) from None
        raise
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise ApplicationError(
                f"module {module_name!r} ({getattr(found, '__file__', '?')}) has no {attribute!r} "
                f"to run as {path!r}"
            ) from None
    if hasattr(found, "as_asgi"):
        found = found.as_asgi()
    from . import mistakes  # which needs what is defined here

    if not callable(found):
        raise ApplicationError(f"{path!r} is {found!r}, which is not an ASGI application")
    mistakes.check_application(path, found)
    application: Application = found
    return application
