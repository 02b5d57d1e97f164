"""The settings of the bot, from its environment."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T", int, float)

_PREFIX = "ENCODE_BOT_"
_MB = 1_000_000


class SettingsError(Exception):
    """The environment does not say what it has to; the message names the variable."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What `read_settings` found.

    Attributes:
        token: of the bot's account; never in a log.
        db_url: where the jobs are.
        data: the folder for downloads, parts and results.
        guild_id: the guild that sees the commands at once; None registers them everywhere.
        queue_limit: jobs that may be active in all.
        user_limit: jobs that one user may have active.
        encoders: encodes at once in this process.
        segment: length of a segment, in seconds of video.
        source_limit: bytes that a source may have.
        upload_limit: bytes that are posted; larger results stay in a folder.
        lease: seconds after which the jobs of a killed bot are taken up again.
        intro: a video in front of the concat presets; None makes a test card.
        public_url: where the folder of results can be reached, if anywhere.
        private_links: whether links may lead to this machine and its network.
    """

    token: str
    db_url: str
    data: Path
    guild_id: int | None
    queue_limit: int
    user_limit: int
    encoders: int
    segment: float
    source_limit: int
    upload_limit: int
    lease: float
    intro: Path | None
    public_url: str | None
    private_links: bool

    def __repr__(self) -> str:
        return f"<Settings of the bot, data in {self.data}>"

    @property
    def jobs(self) -> Path:
        """Where each job has a folder of its own while it is active."""
        return self.data / "jobs"

    @property
    def results(self) -> Path:
        """Where results go that are too large to be posted."""
        return self.data / "results"


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings; README.md lists the variables.

    Raises:
        SettingsError: one is missing, not understood, or not known; it is named.
    """
    source = _Source(environ)
    data = Path(source.text("ENCODE_BOT_DATA") or "encode-bot").resolve()
    intro = source.text("ENCODE_BOT_INTRO")
    found = Settings(
        token=source.needed("DISCORD_TOKEN"),
        db_url=source.text("PANDORA_DB_URL") or f"sqlite:///{data / 'pandora.db'}",
        data=data,
        guild_id=source.number("ENCODE_BOT_GUILD", int, None, 1, 2**63 - 1),
        queue_limit=source.number("ENCODE_BOT_QUEUE", int, 20, 1, 10_000),
        user_limit=source.number("ENCODE_BOT_PER_USER", int, 3, 1, 10_000),
        encoders=source.number("ENCODE_BOT_ENCODERS", int, 1, 1, 64),
        segment=source.number("ENCODE_BOT_SEGMENT", float, 30.0, 0.5, 3600.0),
        source_limit=source.number("ENCODE_BOT_SOURCE_MB", int, 2000, 1, 1_000_000) * _MB,
        upload_limit=int(source.number("ENCODE_BOT_UPLOAD_MB", float, 10.0, 0.0, 500.0) * _MB),
        lease=source.number("ENCODE_BOT_LEASE", float, 30.0, 1.0, 3600.0),
        intro=Path(intro).resolve() if intro else None,
        public_url=source.url("ENCODE_BOT_PUBLIC_URL"),
        private_links=source.yes("ENCODE_BOT_PRIVATE_LINKS"),
    )
    source.refuse_unknown()
    if found.intro is not None and not found.intro.is_file():
        raise SettingsError(f"ENCODE_BOT_INTRO is {found.intro}; there is no such file")
    return found


class _Source:
    """Reads variables, and remembers which there are."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._known: set[str] = set()

    def text(self, name: str) -> str | None:
        self._known.add(name)
        return self._environ.get(name, "").strip() or None

    def needed(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise SettingsError(
                f"{name} is not set; examples/encode_bot/README.md says where it comes from"
            )
        return value

    def yes(self, name: str) -> bool:
        value = self.text(name)
        if value not in (None, "yes", "no"):
            raise SettingsError(f"{name} is {value!r}; expected yes or no")
        return value == "yes"

    def url(self, name: str) -> str | None:
        value = self.text(name)
        if value is None:
            return None
        try:
            parts = urlsplit(value)
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError(f"{name} is {value!r}; expected http://… or https://…")
        return value

    def number(self, name: str, kind: Callable[[str], T], default: Any, low: T, high: T) -> Any:  # noqa: ANN401 - None where there is no default
        value = self.text(name)
        if value is None:
            return default
        try:
            number = kind(value)
        except ValueError:
            number = None
        if number is None or not low <= number <= high:
            raise SettingsError(f"{name} is {value!r}; expected a number from {low} to {high}")
        return number

    def refuse_unknown(self) -> None:
        mine = {name for name in self._environ if name.startswith(_PREFIX)}
        if unknown := sorted(mine - self._known):
            known = ", ".join(sorted(self._known))
            raise SettingsError(f"{unknown[0]} is no setting of the bot; there are {known}")
