"""Every form of a database URL, and what never leaks from one."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pandora_db.dsn import PostgresTarget, Secret, SqliteTarget, parse_dsn
from pandora_db.errors import InvalidInput

DBOS = "a!b@c$d()e*_,/:;=?@ff[]22"


def postgres(url: str, env: dict[str, str] | None = None) -> PostgresTarget:
    target = parse_dsn(url, env or {})
    assert isinstance(target, PostgresTarget)
    return target


def password(target: PostgresTarget) -> str | None:
    return target.password.reveal() if target.password else None


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("pandora.db", "pandora.db"),
        ("./x/pandora.db", "x/pandora.db"),
        ("/srv/a b?c#d%20.db", "/srv/a b?c#d%20.db"),
        (Path("/srv/p.db"), "/srv/p.db"),
        ("sqlite:///pandora.db", "pandora.db"),
        ("sqlite:////srv/pandora.db", "/srv/pandora.db"),
        ("SQLite:///x.db", "x.db"),
        ("sqlite+aiosqlite:///x.db", "x.db"),
        ("sqlite:///a%20b%3F%23%C3%A4.db", "a b?#ä.db"),
        (" pandora.db\n", "pandora.db"),
        ("./host=x.db", "host=x.db"),
    ],
)
def test_sqlite_files(url: str | Path, path: str) -> None:
    target = parse_dsn(url, {})
    assert target == SqliteTarget(Path(path))
    assert target.describe() == str(target) == path


@pytest.mark.parametrize(
    "url", [":memory:", "sqlite://:memory:", "sqlite:///:memory:", Path(":memory:")]
)
def test_memory(url: str | Path) -> None:
    target = parse_dsn(url, {})
    assert target == SqliteTarget(None)
    assert target.describe() == ":memory:"


def test_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/mika")
    assert parse_dsn("~/p.db", {}) == SqliteTarget(Path("/home/mika/p.db"))


def test_environment() -> None:
    assert parse_dsn(None, {"PANDORA_DB_URL": " x.db\n"}) == SqliteTarget(Path("x.db"))
    for env in ({}, {"PANDORA_DB_URL": "  "}):
        with pytest.raises(InvalidInput, match="PANDORA_DB_URL is not set: give a path"):
            parse_dsn(None, env)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "host=localhost user=postgres password=secret dbname=pandora",
            PostgresTarget((("localhost", 5432),), None, "postgres", Secret("secret"), "pandora"),
        ),
        (
            "host=localhost port=5432 user=postgres password=secret dbname=pandora",
            PostgresTarget((("localhost", 5432),), None, "postgres", Secret("secret"), "pandora"),
        ),
        (
            "host=db.example.com user=pandora password=secret dbname=production sslmode=require",
            PostgresTarget(
                (("db.example.com", 5432),),
                None,
                "pandora",
                Secret("secret"),
                "production",
                sslmode="require",
            ),
        ),
        (
            "host=/var/run/postgresql user=postgres dbname=pandora",
            PostgresTarget((("/var/run/postgresql", 5432),), None, "postgres", None, "pandora"),
        ),
        (
            "host=localhost user=postgres dbname=pandora",
            PostgresTarget((("localhost", 5432),), None, "postgres", None, "pandora"),
        ),
    ],
)
def test_the_strings_of_libpndb(url: str, expected: PostgresTarget) -> None:
    assert parse_dsn(url, {}) == expected


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("'a b'", "a b"),
        (r"'it\'s'", "it's"),
        (r"'back\\slash'", "back\\slash"),
        (r"a\ b", "a b"),
        ("a=b", "a=b"),
        ("'a=b host=c'", "a=b host=c"),
        ("a@b:c/d?e#f%20", "a@b:c/d?e#f%20"),
    ],
)
def test_values_of_a_keyword_string(written: str, meant: str) -> None:
    for text in (f"password={written} host=h", f"host = h  password = {written} "):
        target = postgres(text)
        assert password(target) == meant
        assert target.hosts == (("h", 5432),)


def test_empty_values_count_as_not_given() -> None:
    target = postgres("host='' password='' dbname=x")
    assert (target.hosts, target.password, target.database) == ((), None, "x")


@pytest.mark.parametrize(
    "scheme", ["postgresql", "postgres", "postgresql+asyncpg", "postgres+asyncpg", "POSTGRES"]
)
def test_schemes(scheme: str) -> None:
    target = postgres(f"{scheme}://u:p@h:5433/db")
    assert target == PostgresTarget((("h", 5433),), None, "u", Secret("p"), "db")


@pytest.mark.parametrize(
    ("url", "hosts", "described"),
    [
        ("postgresql://h/db", (("h", 5432),), "h:5432/db"),
        ("postgresql://h1,h2:5433/db", (("h1", 5432), ("h2", 5433)), "h1:5432,h2:5433/db"),
        ("postgresql://[::1]:5433,h/db", (("::1", 5433), ("h", 5432)), "[::1]:5433,h:5432/db"),
        ("postgresql://%2Fvar%2Frun/db", (("/var/run", 5432),), "/var/run:5432/db"),
        ("postgresql:///db?host=/sock&port=5433", (("/sock", 5433),), "/sock:5433/db"),
        ("postgresql:///db?host=a,b&port=1,2", (("a", 1), ("b", 2)), "a:1,b:2/db"),
        ("host=a,b port=5433 dbname=db", (("a", 5433), ("b", 5433)), "a:5433,b:5433/db"),
        ("host=a,b port=1,2 dbname=db", (("a", 1), ("b", 2)), "a:1,b:2/db"),
        ("host=a,b port=,2 dbname=db", (("a", 5432), ("b", 2)), "a:5432,b:2/db"),
        ("postgresql:///db", (), "(local server):5432/db"),
        ("postgresql://u@/db", (), "(local server):5432/db"),
        ("port=5433 dbname=db", (), "(local server):5433/db"),
    ],
)
def test_hosts(url: str, hosts: tuple[tuple[str, int], ...], described: str) -> None:
    target = postgres(url)
    assert target.hosts == hosts
    assert target.describe() == str(target) == f"{target}" == described


def test_parameters() -> None:
    target = postgres(
        "postgresql://h1,h2/db?target_session_attrs=read-write&application_name=a%20b"
        "&connect_timeout=7&sslmode=verify-full&sslrootcert=%2Fca%26.pem&sslcert=c&sslkey=k"
        "&passfile=/p"
    )
    assert (target.target_session_attrs, target.application_name) == ("read-write", "a b")
    assert target.connect_timeout == 7.0
    assert target.connect_arguments() == {
        "host": ["h1", "h2"],
        "port": [5432, 5432],
        "database": "db",
        "passfile": "/p",
        "target_session_attrs": "read-write",
        "dsn": "postgresql://?sslmode=verify-full&sslrootcert=%2Fca%26.pem&sslcert=c&sslkey=k",
    }


def test_the_environment_of_libpq_fills_in() -> None:
    env = {
        "PGHOST": "h",
        "PGPORT": "5433",
        "PGUSER": "u",
        "PGDATABASE": "d",
        "PGSSLMODE": "require",
        "PGPASSWORD": "p",
    }
    assert postgres("postgresql://", env) == PostgresTarget(
        (("h", 5433),), None, "u", None, "d", sslmode="require"
    )
    assert postgres("host=x user=y dbname=z", env).describe() == "x:5433/z"


def test_asyncpg_understands_the_arguments() -> None:
    from asyncpg import connect_utils

    arguments = postgres(
        f"postgresql://u:{quote(DBOS, safe='')}@h1,[::1]:5433/db"
        "?sslmode=require&target_session_attrs=any"
    ).connect_arguments()
    names = ("passfile", "direct_tls", "server_settings", "service", "servicefile", "krbsrvname")
    rest: dict[str, Any] = dict.fromkeys((*names, "gsslib", "ssl"))
    hosts, parameters = connect_utils._parse_connect_dsn_and_args(**{**rest, **arguments})
    assert hosts == [("h1", 5432), ("::1", 5433)]
    assert (parameters.user, parameters.password, parameters.database) == ("u", DBOS, "db")
    assert parameters.sslmode.name == "require"


@given(st.text(min_size=1, max_size=30).filter(lambda text: "\0" not in text))
@example(DBOS)
@example("p@w#rd")
@example("100%")
@example("%41")
def test_any_password_round_trips_encoded_and_quoted(secret: str) -> None:
    quoted = secret.replace("\\", "\\\\").replace("'", "\\'")
    for url in (
        f"postgresql://u:{quote(secret, safe='')}@h/db",
        f"postgresql://u@h/db?password={quote(secret, safe='')}",
        f"host=h user=u password='{quoted}' dbname=db",
    ):
        target = postgres(url)
        assert password(target) == secret
        assert target.describe() == "h:5432/db"


def test_user_and_database_are_decoded_too() -> None:
    name = quote(DBOS, safe="")
    target = postgres(f"postgresql://{name}:p@h/{name}")
    assert (target.user, target.database) == (DBOS, DBOS)


SECRET = "hunter2"  # noqa: S105


@pytest.mark.parametrize("special", ["@", "#", "/", "?", "%", "?a=b", "/@", "##", " ", "\t", "%zz"])
def test_an_unescaped_password_is_refused_without_echo(special: str) -> None:
    with pytest.raises(InvalidInput, match="percent-encode") as caught:
        parse_dsn(f"postgresql://u:{SECRET}{special}{SECRET}@h/db", {})
    assert_hidden(caught.value)


def test_the_dbos_password_unescaped_is_refused() -> None:
    with pytest.raises(InvalidInput, match="percent-encode") as caught:
        parse_dsn(f"postgresql://dbos:{DBOS}@localhost:5432/dbos", {})
    assert "ff[]22" not in str(caught.value)


def assert_hidden(error: BaseException) -> None:
    shown = str(error) + repr(error) + repr(vars(error))
    # The source lines of a traceback are the caller's; everything the library says is not.
    shown += "".join(traceback.format_exception_only(error))
    assert SECRET not in shown
    assert error.__cause__ is None
    assert error.__context__ is None


@pytest.mark.parametrize(
    ("url", "field", "message"),
    [
        ("", "url", "is empty"),
        ("mysql://u:hunter2@h/db", "url", "scheme of that URL is not known"),
        ("u:hunter2@h/db", "url", "without postgresql:// in front"),
        ("postgresql:u:hunter2@h/db", "url", "lacks the ://"),
        ("sqlite:x.db", "url", "lacks the ://"),
        ("file:x.db", "url", "lacks the ://"),
        ("sqlite://x.db", "url", "three slashes"),
        ("sqlite://", "url", "three slashes"),
        ("sqlite:///", "url", "three slashes"),
        ("sqlite:///x.db?mode=ro", "url", "takes no parameters such as 'mode'"),
        ("sqlite:///x#y.db", "url", "%23"),
        ("sqlite:///x%zz.db", "url", "percent-encoded"),
        ("sqlite:///x%FF.db", "url", "percent-encoded"),
        ("sqlite:///x%00.db", "url", "NUL"),
        ("data/", "url", "folder"),
        ("a\0b", "url", "NUL"),
        ("a\ud800", "url", "surrogate"),
        ("x" * 5000, "url", "at most|1 to 4096"),
        ("host=h passwrd=hunter2", "passwrd", "did you mean password"),
        ("host=h hostaddr=1.2.3.4", "hostaddr", "known are host, port"),
        ("host=h options=-csearch_path=x", "options", "options is not known"),
        ("host=h channel_binding=require", "channel_binding", "is not known"),
        ("postgresql://h/db?ssl=hunter2", "ssl", "did you mean"),
        ("postgresql://h/db?command_timeout=5", "command_timeout", "is not known"),
        ("host=h password=hunter2 hunter2 dbname=x", "password", "cannot be read after password"),
        ("host=h password=my hunter2=x", "url", "what follows the password is no known key"),
        ("host=h password='hunter2", "password|host", "cannot be read"),
        ("host=h password='hunter2'x", "password|host", "cannot be read"),
        ("postgresql://h/db?password=a&hunter2=b", "url", "what follows the password"),
        ("postgresql://h/db?a%20hunter2=b", "url", "a key is not known"),
        ("password= dbname=hunter2", "password", "has no value"),
        ("host=a host=b", "host", "given twice"),
        ("postgresql://a/db?host=b", "host", "given twice"),
        ("postgresql://a/db?database=b", "dbname", "given twice"),
        ("host=h port=0", "port", "from 1 to 65535"),
        ("host=h port=65536", "port", "from 1 to 65535"),
        ("host=h port=hunter2", "port", "from 1 to 65535"),
        ("host=h port=٣", "port", "from 1 to 65535"),
        ("postgresql://h:hunter2/db", "host", "cannot be read"),
        ("postgresql://[::1/db", "host", "cannot be read"),
        ("host=a,b,c port=1,2", "port", "as many as there are hosts"),
        ("host=a,,c", "host", "between the commas"),
        ("host='a b'", "host", "expected a name"),
        ("host=u:hunter2@h", "host", "expected a name"),
        ("host=h sslmode=hunter2", "sslmode", "one of disable, allow, prefer"),
        ("host=h target_session_attrs=hunter2", "target_session_attrs", "read-write"),
        ("host=h connect_timeout=0", "connect_timeout", "from 1 to"),
        ("host=h connect_timeout=hunter2", "connect_timeout", "from 1 to"),
        ("postgresql://u:hunter2%00@h/db", "password", "NUL"),
        ("postgresql://u:hunter2%FF@h/db", "password", "percent-encode"),
    ],
)
def test_refused(url: str, field: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        parse_dsn(url, {})
    assert caught.value.field in field.split("|")
    assert_hidden(caught.value)


@pytest.mark.parametrize("url", [5, b"x.db", True, 1.5])
def test_what_is_no_text(url: Any) -> None:
    with pytest.raises(InvalidInput, match="url is"):
        parse_dsn(url, {})


@given(st.text(st.characters(), max_size=60) | st.from_regex(r"postgres(ql)?://[ -~]{0,40}"))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        target = parse_dsn(text, {})
    except InvalidInput as error:
        str(error).encode()
    else:
        assert isinstance(target, SqliteTarget | PostgresTarget)
