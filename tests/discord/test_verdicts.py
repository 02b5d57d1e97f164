"""What the errors of the libraries mean, by their attributes alone."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pandora_db.discord import ProgressUpdater
from pandora_db.discord.verdicts import Verdict, judge, retry_after
from tests.discord.conftest import QUICK
from tests.support.messages import row
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pandora_db import JobRow


class LibraryError(Exception):
    """As discord.py, nextcord, py-cord and disnake have it: HTTPException."""

    def __init__(self, status: int, code: int = 0, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"{status} ({code})")
        self.status = status
        self.code = code
        self.response = SimpleNamespace(headers=headers or {})


class RateLimitedError(Exception):
    """As discord.py has it: no HTTPException."""

    retry_after = 0.3


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (LibraryError(404, 10008), Verdict.REPLACE),
        (LibraryError(404, 10015), Verdict.REPLACE),
        (LibraryError(401, 50027), Verdict.REPLACE),
        (LibraryError(429, 30046, {"Retry-After": "500"}), Verdict.REPLACE),
        (LibraryError(403, 50005), Verdict.REPLACE),
        (LibraryError(400, 50083), Verdict.REPLACE),
        (LibraryError(404, 10003), Verdict.GONE),
        (LibraryError(403, 50001), Verdict.GONE),
        (LibraryError(401), Verdict.GONE),
        (LibraryError(400, 50035), Verdict.REFUSED),
        (LibraryError(429, headers={"Retry-After": "7"}), Verdict.WAIT),
        (LibraryError(429), Verdict.RETRY),
        (LibraryError(429, headers={"Retry-After": "soon"}), Verdict.RETRY),
        (RateLimitedError(), Verdict.WAIT),
        (LibraryError(500), Verdict.RETRY),
        (LibraryError(503), Verdict.RETRY),
        (LibraryError(408), Verdict.RETRY),
        (ConnectionResetError(), Verdict.RETRY),
        (TimeoutError(), Verdict.RETRY),
        (RuntimeError("Session is closed"), Verdict.RETRY),
        (AttributeError("'NoneType' object has no attribute 'request'"), Verdict.RETRY),
        (TypeError("unexpected keyword"), Verdict.REFUSED),
    ],
    ids=str,
)
def test_a_verdict(error: Exception, verdict: Verdict) -> None:
    assert judge(error) is verdict


def test_how_long_to_wait() -> None:
    assert retry_after(RateLimitedError()) == 0.3
    assert retry_after(LibraryError(429, headers={"Retry-After": "1.5"})) == 1.5
    assert retry_after(LibraryError(429, headers={"Retry-After": "soon"})) is None
    assert retry_after(LibraryError(429)) is None
    assert retry_after(LibraryError(503)) is None


def fresh(job_id: int) -> JobRow:
    """A job whose message was sent just now."""
    now = int(time.time() * 1000) - 1_420_070_400_000
    return row(job_id, channel_id=1, message_id=(now << 22) + job_id)


class Library:
    """The least that an updater needs: a client, its channels and their messages in one."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.tries: list[tuple[float, dict[str, Any]]] = []

    def get_channel(self, _channel_id: int) -> None:
        return None

    async def fetch_channel(self, _channel_id: int) -> Library:
        return self

    def get_partial_messageable(self, _channel_id: int) -> Library:
        return self

    def get_partial_message(self, _message_id: int) -> Library:
        return self

    async def edit(self, **fields: Any) -> None:
        self.tries.append((asyncio.get_running_loop().time(), fields))
        if self.errors:
            raise self.errors.pop(0)


@pytest.mark.parametrize(
    "error", [RateLimitedError(), LibraryError(429, headers={"Retry-After": "0.3"})]
)
async def test_a_limit_that_a_library_reports_holds_the_whole_channel(error: Exception) -> None:
    library = Library(error)
    async with ProgressUpdater(library, **QUICK) as updater:
        jobs = [fresh(1), fresh(2)]
        for job in jobs:
            updater.show(job, f"{job.job_id}", last=True)
        assert [await updater.settle(job.job_id) for job in jobs] == [True, True]
    (first, _), (second, _), _ = library.tries
    assert second - first >= 0.299
    assert sorted(fields["content"] for _, fields in library.tries[1:]) == ["1", "2"]


async def test_pauses_between_attempts_grow() -> None:
    library = Library(LibraryError(503), LibraryError(503))
    async with ProgressUpdater(library, **QUICK) as updater:
        assert await updater.finish(fresh(1), "done")
    times = [at for at, _ in library.tries]
    assert times[1] - times[0] >= 0.999
    assert times[2] - times[1] >= 1.999


async def test_an_old_message_is_tried_again_as_soon() -> None:
    library = Library(LibraryError(503))
    async with ProgressUpdater(library, **QUICK) as updater:
        assert await updater.finish(row(1, channel_id=1, message_id=1), "done", timeout=5)
    assert len(library.tries) == 2


async def test_a_mistake_in_the_call_is_told_and_not_repeated(
    caplog: pytest.LogCaptureFixture,
) -> None:
    library = Library(TypeError("edit() got an unexpected keyword argument 'view'"))
    async with ProgressUpdater(library, **QUICK) as updater:
        assert not await updater.finish(fresh(1), "done", view=None)
    assert len(library.tries) == 1
    assert "unexpected keyword" in caplog.text


async def test_close_does_not_wait_for_the_next_attempt() -> None:
    library = Library(LibraryError(503), LibraryError(503))
    updater = ProgressUpdater(library, **QUICK)
    updater.show(fresh(1), "done", last=True)
    await wait_until(lambda: len(library.tries) == 2)  # the third would come 2 s later
    begun = time.monotonic()
    assert await updater.close() == ()
    assert time.monotonic() - begun < 1.5
    assert len(library.tries) == 3
