"""Programs do not outlive this process, however it ends.

A process that is killed with SIGKILL can end nobody. So a small shell, in a session of its own,
reads from a pipe which process groups are at work; when the pipe ends, because this process did, it
kills those. Linux's PR_SET_PDEATHSIG would not do: it is tied to the thread that started the
program, and reaches the program only and none of its children.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache

_GUARD = r"""
exec 3<&0
trap '' HUP INT QUIT TERM
{
    groups=' '
    while read -r what group <&3; do
        case $what in
        +) groups="$groups$group " ;;
        *) groups="${groups%%" $group "*} ${groups#*" $group "}" ;;
        esac
    done
    for group in $groups; do kill -s KILL -- "-$group"; done
} &
"""
# A program begins when its group is known to the guardian, and not at all when we end before.
_BEGIN = 'read -r go && exec "$@" </dev/null'


class Guardian:
    """The pipe to such a shell; it is started when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pipe: int | None = None
        self._groups: set[int] = set()

    def add(self, group: int) -> None:
        """Have a group killed when this process is over."""
        with self._lock:
            self._groups.add(group)
            self._tell(f"+ {group}\n")

    def remove(self, group: int) -> None:
        """A group is over; its number may soon be another one's."""
        with self._lock:
            if group in self._groups:
                self._groups.discard(group)
                self._tell(f"- {group}\n")

    def forget(self) -> None:
        """In a child process: the groups are the parent's."""
        self._lock = threading.Lock()
        self._groups.clear()
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None

    def _tell(self, line: str) -> None:
        if self._pipe is not None:
            with suppress(BrokenPipeError):  # somebody killed it
                os.write(self._pipe, line.encode())
                return
            os.close(self._pipe)
            self._pipe = None
        self._start()

    def _start(self) -> None:
        shell = find_shell()
        assert shell is not None, "nothing is guarded without one"  # noqa: S101
        mine, other = os.pipe()
        try:
            # It leaves a child of its own behind and ends, so that nobody has to wait for that one.
            subprocess.run(  # noqa: S603 - no foreign text
                [shell, "-c", _GUARD], stdin=mine, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, cwd="/", start_new_session=True, check=True,
            )  # fmt: skip
        except BaseException as error:
            os.close(other)
            if isinstance(error, subprocess.CalledProcessError):  # it could not fork
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), shell) from error
            raise
        finally:
            os.close(mine)
        self._pipe = other
        os.write(other, "".join(f"+ {group}\n" for group in sorted(self._groups)).encode())


GUARDIAN = Guardian()
"""The one of this process."""

if sys.platform != "win32":
    os.register_at_fork(after_in_child=GUARDIAN.forget)


@cache
def find_shell() -> str | None:
    """The shell that guards; None where there is none, and nothing is guarded."""
    return None if sys.platform == "win32" else shutil.which("sh", path=os.defpath)


def guarded(
    command: Sequence[str],
    *,
    cwd: str | os.PathLike[str] | None,
    env: Mapping[str, str] | None,
) -> list[str] | None:
    """The command that begins `command` when it is given a line; None where nobody guards.

    Raises:
        OSError: there is no such program, which the shell would say in words of its own.
    """
    shell = find_shell()
    if shell is None:
        return None
    program, *arguments = command
    if os.path.dirname(program):  # noqa: PTH120 - of text
        found: str | None = program
        # As exec does, from where it will run.
        path = program if cwd is None else os.path.join(cwd, program)  # noqa: PTH118
        if not os.path.exists(path):  # noqa: PTH110
            raise _refusal(errno.ENOENT, program)
        if os.path.isdir(path) or not os.access(path, os.X_OK):  # noqa: PTH112
            raise _refusal(errno.EACCES, program)
    else:
        found = shutil.which(program, path=os.pathsep.join(os.get_exec_path(env)))
    if found is None:
        raise _refusal(errno.ENOENT, program)
    return [shell, "-c", _BEGIN, "sh", found, *arguments]


def _refusal(code: int, program: str) -> OSError:
    return OSError(code, os.strerror(code), program)
