"""What `run_process` is asked to start, judged before anything is started."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from pandora_db.errors import InvalidInput
from pandora_db.models.checks import describe, path_text, refuse

_TEXT = f"text without NUL that {sys.getfilesystemencoding()} can encode"
_SHOWN = 40  # characters of a name in an error


@dataclass(frozen=True, slots=True)
class Command:
    """A program with its arguments, the folder it runs in and its environment; None for ours."""

    words: tuple[str, ...]
    cwd: str | None
    env: dict[str, str] | None

    @classmethod
    def of(
        cls, program: object, arguments: tuple[object, ...], cwd: object, env: object
    ) -> Command:
        """The command; raises `InvalidInput` for what no system could start."""
        words = (
            _path(program, "program"),
            *(_word(argument, "arguments") for argument in arguments),
        )
        return cls(words, None if cwd is None else _path(cwd, "cwd"), _environment(env))


def _path(value: object, field: str) -> str:
    text = _word(value, field)
    if not text:
        refuse(field, text, "text or a path that is not empty")
    return text


def _word(value: object, field: str) -> str:
    text = path_text(value)
    if not isinstance(text, str) or not _can_be_told(text):
        refuse(field, text, f"a path, or {_TEXT}")
    return text


def _environment(env: object) -> dict[str, str] | None:
    if env is None:
        return None
    if not isinstance(env, Mapping):
        refuse(
            "env", env, "a mapping of names to texts, or None for the environment of this process"
        )
    checked: dict[str, str] = {}
    for name, value in cast("Mapping[object, object]", env).items():
        if not isinstance(name, str) or not name or "=" in name or not _can_be_told(name):
            shown = f"{name[:_SHOWN]!a}, " if isinstance(name, str) and name else ""
            raise InvalidInput(
                f"a name in env is {shown}{describe(name)}; expected {_TEXT}, not empty and "
                "without '='",
                field="env",
            )
        if not isinstance(value, str) or not _can_be_told(value):
            # It may be a secret, whatever its type.
            what = describe(value) if isinstance(value, str) else f"of type {type(value).__name__}"
            raise InvalidInput(
                f"the value of {name[:_SHOWN]!a} in env is {what}; expected {_TEXT}", field="env"
            )
        checked[name] = value
    return checked


def _can_be_told(text: str) -> bool:
    """Whether the system takes it; what Python made of bytes that are no text, it does."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False
