"""A private server whose files are checked once it is down."""

from __future__ import annotations

from subprocess import CalledProcessError

import psycopg
import pytest

from tests.support.installed import find_binaries, installed_server


def test_a_damaged_page_is_found() -> None:
    if (binaries := find_binaries()) is None:
        pytest.skip("no PostgreSQL server is installed")
    with installed_server(binaries) as server:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE t AS SELECT generate_series(1, 5000) AS n")
            connection.execute("CHECKPOINT")
            row = connection.execute("SELECT pg_relation_filepath('t')").fetchone()
            assert row is not None

        assert "Bad checksums:  0" in server.check_files()

        with (server.data / row[0]).open("r+b") as file:
            file.seek(9000)
            file.write(b"\xff" * 8)
        with pytest.raises(CalledProcessError):
            server.check_files()
