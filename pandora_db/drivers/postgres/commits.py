"""COMMIT, and what became of one whose answer was lost (P7)."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import asyncpg

from pandora_db.drivers.postgres.errors import LOST
from pandora_db.errors import ConnectionFailed, HandleClosed, OutcomeUnknown, PoolTimeout

if TYPE_CHECKING:
    from pandora_db.config import Settings
    from pandora_db.drivers.postgres.pool import Connection, Pool
    from pandora_db.drivers.postgres.transaction import PostgresTransaction
    from pandora_db.sqlfiles import Catalogue

log = logging.getLogger("pandora_db")

_PAUSE = 0.05  # seconds between two questions


class Doubt(NamedTuple):
    """A transaction that wrote something, and whose COMMIT was not answered.

    Attributes:
        failure: why.
        number: of the transaction.
        server: when the server was started; after a crash the numbers count anew.
    """

    failure: ConnectionFailed
    number: str
    server: datetime


class Commits:
    """Commits the transactions of one driver."""

    def __init__(self, pool: Pool, queries: Catalogue, settings: Settings) -> None:
        self._pool = pool
        self._status = queries.get("transaction_status")
        self._settings = settings

    async def commit(self, transaction: PostgresTransaction) -> Doubt | None:
        """Commit; None when that is sure."""
        # Asked beforehand; a transaction that wrote nothing has no number.
        ((number, server),) = await transaction.read("current_transaction", {})
        try:
            await transaction.run("COMMIT")
        except ConnectionFailed as error:
            transaction.committed = None
            return None if number is None else Doubt(error, number, server)
        finally:
            if number is not None:
                self._pool.committed()
        transaction.committed = True
        return None

    async def settle(self, doubt: Doubt, lost: Connection) -> None:
        """Ask until it is known to be committed.

        Raises:
            ConnectionFailed: it was not.
            OutcomeUnknown: nobody could tell within `outcome_timeout`.
        """
        values = self._status.statements[0].bind({"transaction": doubt.number})
        deadline = asyncio.get_running_loop().time() + self._settings.outcome_timeout
        told = False
        while asyncio.get_running_loop().time() < deadline:
            status: object = "in progress"
            started: object = doubt.server
            try:
                async with asyncio.timeout_at(deadline), self._pool.connection() as connection:
                    await self._pool.wait_for_end_of(lost, connection)
                    (row,) = await connection.fetch(self._status.text, *values)
                    status, started = row
            except asyncpg.InvalidParameterValueError:  # a crash took the number back: never done
                raise doubt.failure from None
            except HandleClosed:
                break
            except (*LOST, asyncpg.PostgresError, ConnectionFailed, PoolTimeout) as error:
                if not told:  # the server is away, has no time, or may not be asked
                    log.warning("looking again for what became of a transaction: %s", error)
                told = True
            if status == "committed" and started == doubt.server:
                self._pool.committed()  # told before it was so, maybe
                return
            if status == "aborted":
                raise doubt.failure
            if status in {"committed", None}:
                break
            await asyncio.sleep(_PAUSE)
        raise OutcomeUnknown(None, "the transaction") from doubt.failure
