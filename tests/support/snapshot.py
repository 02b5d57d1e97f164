"""Write `sql/<dialect>/schema.txt` anew after a migration was added.

python -m tests.support.snapshot :memory:
python -m tests.support.snapshot postgresql://…/an_empty_database
"""

from __future__ import annotations

import asyncio
import sys

from pandora_db import JobDb
from pandora_db.migrations import describe
from pandora_db.sqlfiles import sql_root


async def write(url: str) -> None:
    async with JobDb.open(url) as db:
        await db.init_schema()
        text = describe(await db._driver.read("describe_schema", {}))
        path = sql_root() / db.dialect / "schema.txt"
        path.write_text(text, "utf-8")
    print(f"{path}: {len(text.splitlines())} lines")


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1]))
