"""Check the queue before a job is accepted (libpndb's first common pattern, without its race).

python -m examples.queue_check [URL]     (a database in memory when no URL is given)

Counting first and inserting afterwards lets two requests slip in at the same time. `max_active`
makes it one step: the job is stored, or `QueueFull` is raised and nothing is.
"""

from __future__ import annotations

import asyncio

from examples import url_argument
from pandora_db import Job, JobDb, QueueFull

LIMIT = 5


async def on_request(db: JobDb, author: str, link: str, message_id: int) -> str:
    """What a bot's command handler does; returns the reply."""
    job = Job(
        author=author,
        link=link,
        message_id=message_id,
        # The gateway may deliver a message twice: the second insert returns the first one's id.
        idempotency_key=f"message:{message_id}",
    )
    try:
        job_id = await db.insert_job(job, max_active=LIMIT)
    except QueueFull:
        return f"{author}: the queue is full, try again later"
    position = await db.queue_position(job_id)
    return f"{author}: accepted as job {job_id}, number {position} in line"


async def main(url: str) -> None:
    """Eight users ask at the same time; five get in."""
    async with JobDb.open(url) as db:
        await db.init_schema()
        users = ["mika", "noor", "kofi", "ines", "tomasz", "lena", "jun", "ada"]
        replies = await asyncio.gather(
            *(
                on_request(db, user, f"https://example.com/{user}.mkv", 1000 + number)
                for number, user in enumerate(users)
            )
        )
        print("\n".join(replies))
        print(f"active: {await db.get_queue_length()}")


if __name__ == "__main__":
    asyncio.run(main(url_argument(__doc__) or ":memory:"))
