"""A job that exists exactly if the caller's own rows do: `db.bind(connection)`.

python -m examples.own_transaction     (SQLite in a temporary file, with aiosqlite)

The connection and its transaction are the caller's. `bind` gives the same methods on it, so the
order and its job are committed together, or neither is. With PostgreSQL it is the same with an
asyncpg connection inside `async with connection.transaction():`.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

import aiosqlite

from examples import url_argument
from pandora_db import Job, JobDb


async def place_order(
    db: JobDb, connection: aiosqlite.Connection, customer: str, price: int
) -> int:
    """Store an order and the job that serves it, both or neither; the table refuses free orders."""
    await connection.execute("BEGIN IMMEDIATE")
    try:
        job = Job(author=customer, link="https://example.com/order.mkv")
        job_id = await db.bind(connection).insert_job(job)
        await connection.execute(
            "INSERT INTO orders (customer, price, job_id) VALUES (?, ?, ?)",
            (customer, price, job_id),
        )
    except BaseException:
        await connection.rollback()
        raise
    await connection.commit()
    return job_id


async def main(path: Path) -> None:
    """One order that is stored with its job, and one that leaves neither."""
    async with JobDb.open(path) as db, aiosqlite.connect(path) as connection:
        await db.init_schema()
        await connection.execute(
            "CREATE TABLE orders (customer TEXT, price INTEGER CHECK (price > 0), job_id INTEGER)"
        )
        await connection.commit()

        job_id = await place_order(db, connection, "mika", 300)
        print(f"order stored with job {job_id}")
        try:
            await place_order(db, connection, "noor", 0)
        except aiosqlite.IntegrityError as error:
            print(f"refused: {error}")

        orders = await connection.execute_fetchall("SELECT customer, job_id FROM orders")
        print(f"orders: {[tuple(order) for order in orders]}")
        print(f"jobs:   {[(job.author, job.job_id) for job in await db.get_active_jobs()]}")


if __name__ == "__main__":
    if url_argument(__doc__):
        sys.exit("error: it takes no URL, but makes a SQLite file of its own")
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder) / "shop.db"))
