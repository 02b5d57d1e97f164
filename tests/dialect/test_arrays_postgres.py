"""How asyncpg goes through what it is given for an array."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from pandora_db.drivers.postgres.arrays import Flat
from pandora_db.dsn import PostgresTarget, parse_dsn


@pytest.fixture
async def connection(url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    target = parse_dsn(url)
    assert isinstance(target, PostgresTarget)
    connection = await asyncpg.connect(**target.connect_arguments())
    yield connection
    await connection.close()


class Counted(list[Any]):
    """Counts how often it was gone through."""

    ways = 0

    def __iter__(self) -> Iterator[Any]:
        self.ways += 1
        return super().__iter__()


async def test_it_does_so_twice(connection: asyncpg.Connection[Any]) -> None:
    counted = Counted([1, None, 3])

    assert await connection.fetchval("SELECT $1::int[]", counted) == [1, None, 3]
    assert counted.ways == 2


@pytest.mark.parametrize(
    ("kind", "values"),
    [("int[]", [1, None, 3]), ("text[]", ["", None, "{a,b}", "NULL"]), ("bytea[]", [b"\0", None])],
)
async def test_the_elements_of_a_flat_array_arrive(
    connection: asyncpg.Connection[Any], kind: str, values: list[object]
) -> None:
    flat = Flat(values)

    for _ in range(2):  # to send it again is slower, and the same
        assert await connection.fetchval(f"SELECT $1::{kind}", flat) == values


async def test_an_element_that_is_refused_is_named(connection: asyncpg.Connection[Any]) -> None:
    with pytest.raises(asyncpg.DataError, match=r"\$1: \(1, 'two'\) \(invalid array element"):
        await connection.fetchval("SELECT $1::int[]", Flat((1, "two")))
