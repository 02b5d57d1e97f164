"""Show a user the jobs that were asked for (libpndb's second common pattern).

python -m examples.user_history [URL]     (a database in memory when no URL is given)
"""

from __future__ import annotations

import asyncio

from examples import url_argument
from pandora_db import Job, JobDb, Preset, Stage


async def my_jobs(db: JobDb, author: str | int, limit: int = 10) -> str:
    """The reply to `!myjobs`; `author` is a name, or an author_id when it is an int."""
    history = await db.get_user_history(author, limit)
    lines = [f"Your last {len(history)} jobs:"]
    for row in history:
        job = row.to_job_metadata()
        mark = "✓" if job.archived else "⏳"
        lines.append(f"{mark} Job {job.job_id} - {job.preset.name} - {job.ready.name}")
    return "\n".join(lines)


async def main(url: str) -> None:
    """Store a few jobs of two users, and show one user's."""
    async with JobDb.open(url) as db:
        await db.init_schema()
        ids = await db.insert_jobs(
            Job(
                author=author,
                author_id=author_id,
                link=f"https://example.com/{number}.mkv",
                preset=preset,
            )
            for number, (author, author_id, preset) in enumerate(
                [
                    ("mika", 41, Preset.STANDARD),
                    ("noor", 42, Preset.GPU),
                    ("mika", 41, Preset.PSEUDO_LOSSLESS),
                    ("mika", 41, Preset.CONCAT_SOME_SUBS),
                ]
            )
        )
        await db.update_stage(ids[0], Stage.UPLOADED)
        await db.archive_job(ids[0])
        await db.update_stage(ids[2], Stage.ENCODING)

        print(await my_jobs(db, "mika"))
        # Names change, ids do not: the same jobs by id.
        print(await my_jobs(db, 41, limit=1))


if __name__ == "__main__":
    asyncio.run(main(url_argument(__doc__) or ":memory:"))
