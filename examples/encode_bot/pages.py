"""A user's jobs, a page at a time."""

from __future__ import annotations

from dataclasses import dataclass

from examples.encode_bot.wording import line_of
from pandora_db import JobDb

PAGE = 5


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs of a user, newest first.

    Attributes:
        user_id: whose.
        after: the key of the job in front of the page; None for the newest.
        text: the page itself.
        older: the key that the next page goes on behind, if there is one.
    """

    user_id: int
    after: tuple[int, int] | None
    text: str
    older: tuple[int, int] | None


async def read_page(db: JobDb, user_id: int, after: tuple[int, int] | None = None) -> Page:
    """The jobs behind `after`. By key: no job is missed or shown twice when others arrive."""
    jobs = await db.get_jobs(author_id=user_id, limit=PAGE + 1, after=after)
    shown = jobs[:PAGE]
    text = "\n".join(line_of(job) for job in shown) or "there are no jobs of yours"
    older = (shown[-1].requested_at, shown[-1].job_id) if len(jobs) > PAGE else None
    return Page(user_id, after, text, older)
