"""Where a database is: what `parse_dsn` makes of a URL, without ever showing the password."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from pandora_db.errors import InvalidInput


class Secret:
    """A text that shows as `***` wherever it is printed, formatted or pickled.

    `reveal()` gives the text. A pickled secret has lost it: there `reveal()` raises `InvalidInput`.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str | None) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself: hand it to the driver, keep it nowhere."""
        if self._text is None:
            raise InvalidInput(
                "the password was left out when this target was pickled; parse the URL again",
                field="password",
            )
        return self._text

    def __repr__(self) -> str:
        return "Secret('***')"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return format("***", spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        if self._text is None or other._text is None:
            return self._text is other._text
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(Secret)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[type[Secret], tuple[None]]:
        return Secret, (None,)


@dataclass(frozen=True)
class SqliteTarget:
    """A SQLite file, or a database in memory where `path` is None."""

    path: Path | None

    def describe(self) -> str:
        """The path of the file, or `:memory:`."""
        return ":memory:" if self.path is None else str(self.path)

    def __str__(self) -> str:
        return self.describe()


@dataclass(frozen=True)
class PostgresTarget:
    """One PostgreSQL database on one or several hosts.

    What is None or empty was not given; asyncpg then looks where libpq does (local sockets, the
    operating system's user name, the password file).

    Attributes:
        hosts: (host or socket directory, port), tried in order.
        default_port: the port where `hosts` is empty; None for 5432.
        user: role to log in as.
        password: shows as `***`.
        database: name of the database.
        sslmode: disable, allow, prefer, require, verify-ca or verify-full.
        sslrootcert: file of the certificate authorities.
        sslcert: file of the client's certificate.
        sslkey: file of the client's key.
        passfile: password file.
        target_session_attrs: which of several hosts will do: any, read-write, primary, …
        application_name: for `server_settings`, which `connect_arguments` leaves to the driver.
        connect_timeout: seconds for one attempt; goes before the setting of that name.
    """

    hosts: tuple[tuple[str, int], ...] = ()
    default_port: int | None = None
    user: str | None = None
    password: Secret | None = None
    database: str | None = None
    sslmode: str | None = None
    sslrootcert: str | None = None
    sslcert: str | None = None
    sslkey: str | None = None
    passfile: str | None = None
    target_session_attrs: str | None = None
    application_name: str | None = None
    connect_timeout: float | None = None

    def describe(self) -> str:
        """`host:port/database`, hosts separated by commas."""
        hosts = ",".join(f"[{h}]:{p}" if ":" in h else f"{h}:{p}" for h, p in self.hosts)
        database = self.database or self.user or "(database of the user's name)"
        return f"{hosts or f'(local server):{self.default_port or 5432}'}/{database}"

    def __str__(self) -> str:
        return self.describe()

    def connect_arguments(self) -> dict[str, Any]:
        """Keyword arguments for `asyncpg.connect` or `asyncpg.create_pool`.

        Holds the password in clear: hand it over, do not log it. `timeout` and `server_settings`
        are the driver's to add.
        """
        arguments: dict[str, Any] = {
            "port": self.default_port,
            "user": self.user,
            "password": self.password.reveal() if self.password else None,
            "database": self.database,
            "passfile": self.passfile,
            "target_session_attrs": self.target_session_attrs,
        }
        if self.hosts:
            arguments["host"] = [host for host, _ in self.hosts]
            arguments["port"] = [port for _, port in self.hosts]
        tls = {
            "sslmode": self.sslmode,
            "sslrootcert": self.sslrootcert,
            "sslcert": self.sslcert,
            "sslkey": self.sslkey,
        }
        given = [f"{key}={quote(value, safe='')}" for key, value in tls.items() if value]
        if given:
            # asyncpg takes certificate files only inside a DSN; nothing secret is in this one.
            arguments["dsn"] = "postgresql://?" + "&".join(given)
        return {key: value for key, value in arguments.items() if value is not None}


Target = SqliteTarget | PostgresTarget
