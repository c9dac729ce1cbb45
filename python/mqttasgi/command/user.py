"""Whom root runs the broker as.

Mosquitto becomes that user as soon as it has read its configuration, and the application's code runs as that
user. So the command becomes it earlier still, before it writes that configuration: root never reads, gives
away or removes a file that this code could put a link in the place of.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from .option_table import Settings

#: As many links as the kernel follows on one way.
_LINKS_MAX = 40


def user_of(settings: Settings) -> Optional[pwd.struct_passwd]:
    """Return who the broker becomes when root starts it; None where it stays who it is.

    Raises:
        UsageError: There is no such user.
    """
    if os.geteuid() != 0 or settings.user == "root":
        return None
    # As Mosquitto has it.
    for name in [settings.user] if settings.user else ["mosquitto", "nobody"]:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise settings.complain("user", f'there is no user "{settings.user or "mosquitto"}" on this machine')


def become(settings: Settings) -> None:
    """Become that user, for good.

    Raises:
        UsageError: The system does not let root do that.
    """
    user = user_of(settings)
    if user is None:
        return
    try:
        os.initgroups(user.pw_name, user.pw_gid)
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    except OSError as error:
        raise settings.complain(
            "user",
            f"root may not become {user.pw_name} here ({error.strerror}); start the command as that user",
        ) from None


def check_user(settings: Settings) -> None:
    """Raise `UsageError` where there is no such user, or root would obey somebody else's `.env` file.

    Somebody else's is one that others than root and who used sudo can write.
    """
    user_of(settings)
    if os.geteuid() != 0 or settings.env_file is None:
        return
    for name in ("user", "persistence"):
        source = settings.sources.get(name, "")
        if source.startswith(f"{settings.env_file}, ") and not is_roots(Path(settings.env_file)):
            raise settings.complain(
                name,
                "root does not take this from a file that others can write; give it as the argument "
                f"--{name}, or file and folder to root",
            )


def is_roots(path: Path) -> bool:
    """Whether only root, or who has become root with sudo, can put something in this place.

    Or lead somewhere else with a link on the way there.
    """
    trusted = {0, int(os.environ.get("SUDO_UID", "0"))}
    try:
        return all(_is_safe(place.lstat(), trusted) for place in _way_to(path))
    except FileNotFoundError:
        return True  # as far as there is something


def _way_to(path: Path) -> Iterator[Path]:
    """Each folder and each link on the way there, and the place itself."""
    place, rest, links = Path("/"), [*path.absolute().parts[:0:-1]], 0
    yield place
    while rest:
        place /= rest.pop()
        yield place
        if place.is_symlink():
            links += 1
            if links > _LINKS_MAX:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
            target = Path(os.readlink(place))
            place = Path("/") if target.is_absolute() else place.parent
            rest += [part for part in reversed(target.parts) if part != "/"]


def _is_safe(status: os.stat_result, trusted: set[int]) -> bool:
    if status.st_uid not in trusted:
        return False
    others = stat.S_IWOTH | (stat.S_IWGRP if status.st_gid else 0)
    if stat.S_ISLNK(status.st_mode) or not status.st_mode & others:
        return True
    return bool(stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX)


def make_persistence(settings: Settings) -> None:
    """Make the folder that `--persistence` names, if need be.

    Raises:
        UsageError: It cannot be made, or the broker's user cannot write to it.
    """
    if not settings.persistence:
        return
    user = user_of(settings)
    if not os.path.isdir(settings.persistence):
        try:
            _make_folder(Path(settings.persistence), user)
        except OSError as error:
            raise settings.complain(
                "persistence", f"{settings.persistence} cannot be made: {error.strerror}"
            ) from None
    check_persistence(settings)


def check_persistence(settings: Settings) -> None:
    """Raise `UsageError` where the broker's user cannot write to the folder, if that is there."""
    # A folder that was there before keeps its owner: it may be somebody else's, too.
    user = user_of(settings)
    folder = settings.persistence
    if folder and os.path.isdir(folder) and not _may_write(user, folder):
        who = f"the broker's user {user.pw_name}" if user else "this user"
        raise settings.complain(
            "persistence", f"{who} may not write to {folder}; change that, or name another folder"
        )


def _make_folder(path: Path, user: Optional[pwd.struct_passwd]) -> None:
    """As that user, where others than root could put a link in the way."""
    if user is None:
        os.makedirs(path)
        return
    if is_roots(path.parent):
        os.makedirs(path.parent, exist_ok=True)
        if is_roots(path.parent):  # still: in a folder like /tmp somebody may have been faster
            os.mkdir(path)
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
            return
    if not _succeeds(user, "mkdir", "-p", "--", str(path.absolute())):
        raise OSError(
            errno.EACCES,
            f"user {user.pw_name} may not do that, and root makes nothing where others can move it",
        )


def _may_write(user: Optional[pwd.struct_passwd], folder: str) -> bool:
    if not user:
        return os.access(folder, os.W_OK | os.X_OK)
    return _succeeds(user, "test", "-w", folder, "-a", "-x", folder)


def _succeeds(user: pwd.struct_passwd, *command: str) -> bool:
    """Whether a program succeeds as that user."""
    groups = os.getgrouplist(user.pw_name, user.pw_gid)
    ran = subprocess.run(
        command, user=user.pw_uid, group=user.pw_gid, extra_groups=groups, cwd="/", stderr=subprocess.DEVNULL
    )
    return ran.returncode == 0
