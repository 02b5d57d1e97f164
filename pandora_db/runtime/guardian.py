"""Programs do not outlive this process, however it ends.

A process that is killed with SIGKILL can end nobody. So a small shell, in a session of its own,
reads from a pipe which process groups are at work; when the pipe ends, because this process did, it
kills those. Linux's PR_SET_PDEATHSIG would not do: the program would have to ask for it itself, and
it is tied to the thread that started the program, and reaches none of its children.

A program is started as it is, and its group is known only then. For the moment in between the
guardian knows the pipes that the program is given: it kills the group of whoever holds one as its
output or error output. That child has them by the time that the guardian hears of our end, since
until it is the program it holds our end of the guardian's pipe too; not so under uvloop, whose
child lets go of that first, and for which the guardian looks again a second later. It takes Linux's
/proc; on other systems a program whose worker is killed in this moment, some turns of the event
loop, goes on, as it does on Linux if the first thing it does is to put both pipes away.

A guardian that reads no more, such as one that SIGSTOP stopped, is replaced when its pipe is full.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from functools import cache

_GUARD = r"""
PATH="$PATH:/bin:/usr/bin"
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
    for group in $groups; do
        case $group in
        pipe:*) ;;
        *) kill -s KILL -- "-$group" ;;
        esac
    done
    case $groups in *pipe:*)
        for seconds in 0 1; do
            sleep "$seconds"
            ls -n /proc/[0-9]*/fd/[12] 2>/dev/null | while read -r line; do
                pipe=${line##* -> pipe:[}
                case $groups in *" pipe:${pipe%]} "*)
                    pid=${line##* /proc/}
                    kill -s KILL -- "-${pid%%/*}"
                esac
            done
        done
    esac
} >/dev/null &
echo $!
"""


class Guardian:
    """The pipe to such a shell; it is started when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pipe: int | None = None
        self._pid = 0
        self._groups: set[str] = set()

    def add(self, *groups: int | str) -> None:
        """Have groups killed when this process is over: by their number, or the name of a pipe.

        Where there is no shell, nothing is guarded.

        Raises:
            OSError: the shell cannot be started.
        """
        if find_shell() is None:
            return
        with self._lock:
            added = [str(group) for group in groups]
            self._groups.update(added)
            self._tell("+", added)

    def remove(self, *groups: int | str) -> None:
        """Groups are over; their numbers may soon be others'."""
        with self._lock:
            removed = [str(group) for group in groups if str(group) in self._groups]
            if removed:
                self._groups.difference_update(removed)
                self._tell("-", removed)

    def forget(self) -> None:
        """In a child process: the groups are the parent's."""
        self._lock = threading.Lock()
        self._groups.clear()
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None

    def _tell(self, what: str, groups: Iterable[str]) -> None:
        pipe, pid = self._pipe, self._pid
        if pipe is None:
            self._start()
            return
        try:
            os.write(pipe, _lines(what, groups))
        except BrokenPipeError:  # somebody killed it
            self._pipe = None
            os.close(pipe)
            self._start()
        except BlockingIOError:  # it reads no more
            self._start()
            # It is there, as its end of the pipe is. At ours it would kill what it knew last.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.close(pipe)

    def _start(self) -> None:
        shell = find_shell()
        assert shell is not None, "nothing is guarded without one"  # noqa: S101
        mine, other = os.pipe()
        try:
            # It leaves a child of its own behind and ends, so that nobody has to wait for that one.
            begun = subprocess.run(  # noqa: S603 - no foreign text
                [shell, "-c", _GUARD], stdin=mine, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, cwd="/", start_new_session=True, check=True,
            )  # fmt: skip
        except BaseException as error:
            os.close(other)
            if isinstance(error, subprocess.CalledProcessError):  # it could not fork
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), shell) from error
            raise
        finally:
            os.close(mine)
        self._pipe, self._pid = other, int(begun.stdout)
        os.write(other, _lines("+", sorted(self._groups)))
        os.set_blocking(other, False)  # the event loop waits for no guardian


def _lines(what: str, groups: Iterable[str]) -> bytes:
    return "".join(f"{what} {group}\n" for group in groups).encode()


GUARDIAN = Guardian()
"""The one of this process."""

if sys.platform != "win32":
    os.register_at_fork(after_in_child=GUARDIAN.forget)


@cache
def find_shell() -> str | None:
    """The shell that guards; None where there is none, and nothing is guarded."""
    return None if sys.platform == "win32" else shutil.which("sh", path=os.defpath)
