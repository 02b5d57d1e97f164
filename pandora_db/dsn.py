"""Every way to say where the database is → one checked value that hides its password.

    None                                    the environment variable PANDORA_DB_URL
    "pandora.db", "~/x.db", Path("x.db")    a SQLite file
    "sqlite:///relative.db"                 the same as a URL, percent-encoded
    "sqlite:////absolute.db"
    ":memory:", "sqlite://:memory:"         SQLite in memory
    "host=localhost user=postgres …"        a libpq keyword string (seed: libpndb)
    "postgresql://user:password@host/db"    a URL; postgres://, +asyncpg, several hosts

Nothing is connected here. What is refused raises `InvalidInput` with the name of the key; no value
is echoed, since any of them may be a password or a piece of one.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import unquote_to_bytes

from pandora_db.errors import InvalidInput
from pandora_db.models.checks import check_text
from pandora_db.models.limits import MAX_PATH
from pandora_db.models.target import PostgresTarget, Secret, SqliteTarget, Target

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PostgresTarget", "Secret", "SqliteTarget", "Target", "parse_dsn"]

ENVIRONMENT = "PANDORA_DB_URL"
_FORMS = (
    "give a path such as pandora.db, sqlite:///pandora.db, "
    "postgresql://user:password@host/database, or host=… user=… dbname=…"
)
_KEYS = (
    "host",
    "port",
    "user",
    "password",
    "dbname",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "passfile",
    "target_session_attrs",
    "application_name",
    "connect_timeout",
)
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SESSIONS = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")
_ENCODE = (
    "percent-encode what is special in it: @ as %40, : as %3A, / as %2F, ? as %3F, # as %23, "
    "% as %25 (urllib.parse.quote(password, safe='') does it)"
)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_KEYWORD = re.compile(r"\s*[A-Za-z_]\w*\s*=")
_PAIR = re.compile(
    r"\s*([^\s=']+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)*))(?=\s|$)", re.DOTALL
)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f]")


def parse_dsn(
    url: str | os.PathLike[str] | None = None, env: Mapping[str, str] | None = None
) -> Target:
    """Where the database is (forms: see the module).

    Args:
        url: one of the forms; None takes `PANDORA_DB_URL`.
        env: the environment, `os.environ` by default. `PGHOST`, `PGPORT`, `PGUSER`, `PGDATABASE`
            and `PGSSLMODE` stand in for what a PostgreSQL form leaves out.

    Raises:
        InvalidInput: the form, a key or a value is wrong; `.field` names the key.
    """
    env = os.environ if env is None else env
    if url is None:
        url = env.get(ENVIRONMENT, "").strip()
        if not url:
            raise InvalidInput(f"no database was given and {ENVIRONMENT} is not set: {_FORMS}")
    if isinstance(url, os.PathLike):
        return _sqlite_path(os.fspath(url))
    text = check_text(url, "url", 4 * MAX_PATH).strip()
    if not text:
        raise InvalidInput(f"the database URL is empty: {_FORMS}", field="url")
    scheme = _SCHEME.match(text)
    if scheme:
        return _url(scheme[1].lower(), text[scheme.end() :], env)
    if _KEYWORD.match(text):
        return _postgres(_keywords(text), env)
    if re.match(r"(sqlite|postgres\w*|file)(\+\w+)?(:|//)", text, re.IGNORECASE):
        raise InvalidInput(f"that URL lacks the :// after its scheme: {_FORMS}", field="url")
    if re.search(r":.*@", text):
        raise InvalidInput(
            f"that looks like a server's address without postgresql:// in front: {_FORMS}",
            field="url",
        )
    if re.search(r"\b(password|user|dbname)\s*=|\bhost\s*:|://", text, re.IGNORECASE):
        raise InvalidInput(
            f"that looks like a server's address, but is none that is known: {_FORMS}", field="url"
        )
    return _sqlite_path(text)


def _sqlite_path(path: object) -> SqliteTarget:
    if path == ":memory:":
        return SqliteTarget(None)
    text = check_text(path, "url", MAX_PATH, least=1)
    if text.endswith(("/", os.sep)):
        raise InvalidInput("that path names a folder; give the file in it", field="url")
    return SqliteTarget(Path(text).expanduser() if text.startswith("~/") else Path(text))


def _url(scheme: str, rest: str, env: Mapping[str, str]) -> Target:
    if scheme in ("sqlite", "sqlite+aiosqlite"):
        return _sqlite_url(rest)
    if scheme in ("postgresql", "postgres", "postgresql+asyncpg", "postgres+asyncpg"):
        return _postgres(_postgres_url(rest), env)
    raise InvalidInput("the scheme of that URL is not known: " + _FORMS, field="url")


def _sqlite_url(rest: str) -> SqliteTarget:
    path, mark, query = rest.partition("?")
    if mark:
        key = query.partition("=")[0]
        raise InvalidInput(
            f"a sqlite URL takes no parameters such as {key[:40]!r}; "
            "settings are keywords of JobDb.open (write a ? in the path as %3F)",
            field="url",
        )
    if "#" in path:
        raise InvalidInput("write a # in the path of a sqlite URL as %23", field="url")
    if path in (":memory:", "/:memory:"):
        return SqliteTarget(None)
    if not path.startswith("/") or path == "/":
        raise InvalidInput(
            "a sqlite URL has three slashes before a relative path and four before an absolute "
            "one: sqlite:///pandora.db, sqlite:////srv/pandora.db",
            field="url",
        )
    return _sqlite_path(_decode(path[1:], "url"))


def _decode(text: str, field: str) -> str:
    """Percent-decoded `text`; refused without echoing it."""
    decoded = None
    if not _BAD_ESCAPE.search(text):
        decoded = unquote_to_bytes(text).decode("utf-8", "surrogateescape")
        if not decoded.isascii() and any("\udc80" <= c <= "\udcff" for c in decoded):
            decoded = None
    if decoded is None:
        raise InvalidInput(
            f"{field} is not percent-encoded as it must be in a URL: {_ENCODE}", field=field
        )
    return decoded


def _postgres_url(rest: str) -> dict[str, str]:
    """The keys and values of a URL, under the names that libpq gives them."""
    end = re.search(r"[/?#]", rest)
    authority, tail = (rest[: end.start()], rest[end.start() :]) if end else (rest, "")
    # An @ behind the authority means that a special character in the password cut it short.
    if "@" in tail or "#" in tail or authority.count("@") > 1 or _UNPRINTABLE.search(rest):
        raise InvalidInput(
            "the URL holds a character that is special at that place; if it is in the user name or "
            f"password, {_ENCODE}",
            field="url",
        )
    values: dict[str, str] = {}
    login, at, address = authority.rpartition("@")
    if at:
        user, _, password = login.partition(":")
        values["user"] = _decode(user, "user")
        values["password"] = _decode(password, "password")
    if address:
        values["host"], values["port"] = _address(address)
    path, _, query = tail.partition("?")
    values["dbname"] = _decode(path[1:], "dbname")
    values = {key: value for key, value in values.items() if value}
    previous = ""
    for pair in query.split("&") if query else ():
        key, _, value = pair.partition("=")
        key = _decode(key, "url")
        key = "dbname" if key == "database" else key
        _check_key(key, values, after_password=previous == "password")
        values[key] = _decode(value, key)
        previous = key
    return values


def _address(text: str) -> tuple[str, str]:
    """The hosts and the ports of an authority, each separated by commas."""
    hosts: list[str] = []
    ports: list[str] = []
    for part in text.split(","):
        found = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^\[\]:]*)(?::(\d*))?", part)
        if not found:
            raise InvalidInput(
                "the host or port in that URL cannot be read; expected host:port, [IPv6]:port or a "
                f"socket directory as %2Fvar%2Frun; if a password is meant, {_ENCODE}",
                field="host",
            )
        hosts.append(_decode(found[1].strip("[]"), "host"))
        ports.append(found[2] or "")
    return ",".join(hosts), ",".join(ports) if any(ports) else ""


def _keywords(text: str) -> dict[str, str]:
    r"""The keys and values of a libpq keyword string: key = value, key='quoted \' value'."""
    values: dict[str, str] = {}
    at, previous = 0, ""
    while text[at:].strip():
        found = _PAIR.match(text, at)
        if not found:
            where = f"after {previous}" if previous else "at its start"
            raise InvalidInput(
                f"the connection string cannot be read {where}; expected key=value, with quotes "
                "around a value that holds spaces: password='a b' (and \\' for a quote in it)",
                field=previous or "url",
            )
        key = found[1]
        _check_key(key, values, after_password=previous == "password")
        value = found[2] if found[2] is not None else found[3]
        if found[2] is None and text[found.start(3) - 1].isspace() and _is_pair(value):
            # libpq takes the pair after "password= " for the password itself.
            raise InvalidInput(f"{key} has no value; write {key}='' or leave it out", field=key)
        values[key] = re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
        at, previous = found.end(), key
    return values


def _is_pair(value: str) -> bool:
    return value.partition("=")[0] in _KEYS and "=" in value


def _check_key(key: str, values: Mapping[str, str], *, after_password: bool) -> None:
    if key in values:
        raise InvalidInput(f"{key} is given twice", field=key)
    if key in _KEYS:
        return
    if after_password or not re.fullmatch(r"\w{1,40}", key, re.ASCII):
        # The rest of a badly quoted password reads like a key.
        raise InvalidInput(
            "what follows the password is no known key; quote a password that holds spaces in a "
            f"keyword string, and in a URL {_ENCODE}"
            if after_password
            else f"a key is not known; known are {', '.join(_KEYS)}",
            field="url",
        )
    close = difflib.get_close_matches(key, _KEYS, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise InvalidInput(f"{key} is not known; {hint}known are {', '.join(_KEYS)}", field=key)


def _postgres(values: Mapping[str, str], env: Mapping[str, str]) -> PostgresTarget:
    for key, value in values.items():
        if "\0" in value:
            _refuse(key, "text without a NUL character")

    def given(key: str, variable: str | None = None) -> str | None:
        return values.get(key) or (env.get(variable) if variable else None) or None

    password = given("password")
    hosts, default_port = _hosts(given("host", "PGHOST"), given("port", "PGPORT"))
    return PostgresTarget(
        hosts=hosts,
        default_port=default_port,
        user=given("user", "PGUSER"),
        password=Secret(password) if password else None,
        database=given("dbname", "PGDATABASE"),
        sslmode=_one_of("sslmode", given("sslmode", "PGSSLMODE"), _SSL_MODES),
        sslrootcert=given("sslrootcert"),
        sslcert=given("sslcert"),
        sslkey=given("sslkey"),
        passfile=given("passfile"),
        target_session_attrs=_one_of(
            "target_session_attrs", given("target_session_attrs"), _SESSIONS
        ),
        application_name=given("application_name"),
        connect_timeout=_connect_timeout(given("connect_timeout")),
    )


def _refuse(field: str, expected: str) -> NoReturn:
    raise InvalidInput(f"{field} cannot be that; expected {expected}", field=field)


def _one_of(field: str, value: str | None, known: tuple[str, ...]) -> str | None:
    if value is not None and value not in known:
        _refuse(field, f"one of {', '.join(known)}")
    return value


def _number(field: str, text: str, least: int, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
        _refuse(field, f"a whole number from {least} to {most}")
    return int(text)


def _connect_timeout(text: str | None) -> float | None:
    return None if text is None else float(_number("connect_timeout", text, 1, 31_536_000))


def _hosts(hosts: str | None, ports: str | None) -> tuple[tuple[tuple[str, int], ...], int | None]:
    """The (host, port) pairs; and the port for asyncpg's own choice where no host is given."""
    names = hosts.split(",") if hosts else []
    numbers = [_number("port", port or "5432", 1, 65_535) for port in (ports or "5432").split(",")]
    if not names:
        return (), numbers[0] if ports and len(numbers) == 1 else None
    if len(numbers) == 1:
        numbers *= len(names)
    if len(numbers) != len(names):
        _refuse("port", "one port, or as many as there are hosts")
    if not all(names):
        _refuse("host", "a name, address or socket directory between the commas")
    for name in names:
        if _UNPRINTABLE.search(name) or "@" in name or "=" in name:
            _refuse("host", "a name, an address or a socket directory")
    return tuple(zip(names, numbers, strict=True)), None
