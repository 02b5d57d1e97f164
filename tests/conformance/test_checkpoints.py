"""Checkpoints as a worker sees them: what is kept, what is written, and what damage does."""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import BaseModel

from pandora_db import (
    CheckpointCorrupt,
    Claim,
    InvalidInput,
    JobDb,
    LeaseLost,
    OutcomeUnknown,
    Preset,
    Stage,
)
from pandora_db.testing import insert_job_at
from tests.support.raw import Raw

KB = 1024
ROWS = "SELECT seq, part FROM job_checkpoints ORDER BY seq, part"
SIZES = "SELECT seq, part, length(data) FROM job_checkpoints ORDER BY seq, part"


class CopyState(BaseModel):
    done: set[int]
    target: Path


async def claimed(db: JobDb) -> Claim:
    job_id = await insert_job_at(db, Stage.DOWNLOADED)
    claim = await db.claim_job(job_id, into=Stage.ENCODING)
    assert claim is not None
    return claim


async def again(db: JobDb, claim: Claim) -> Claim:
    """The next worker's claim, after the first was lost."""
    await db.release_job(claim)
    taken = await db.claim_job(claim.job_id, into=Stage.ENCODING)
    assert taken is not None
    return taken


async def test_load_checkpoint_finds_what_save_checkpoint_kept(db: JobDb) -> None:
    claim = await claimed(db)
    assert await db.load_checkpoint(claim) is None
    state = {
        "next_segment": 12,
        "started": datetime.now(UTC),
        "id": uuid4(),
        "done": {1, 2, 3},
        "pair": (1, "ü"),
        "folder": Path("/srv/x"),
        "preset": Preset.GPU,
        "model": CopyState(done={5}, target=Path("a")),
        "raw": b"\x00\xff",
    }

    await db.save_checkpoint(claim, state)

    assert await db.load_checkpoint(claim) == state
    other = await again(db, claim)
    found = await db.load_checkpoint(other)
    assert found == state
    assert [type(value) for value in found.values()] == [type(value) for value in state.values()]
    assert await db.load_checkpoint(claim.job_id, stage=Stage.ENCODING) == state
    assert await db.load_checkpoint(claim.job_id, stage=Stage.UPLOADING) is None


@pytest.mark.parametrize(
    "state", [None, 5, "text", [1, 2], {}, CopyState(done=set(), target=Path())]
)
async def test_any_state_can_be_kept(db: JobDb, state: Any) -> None:
    claim = await claimed(db)
    await db.save_checkpoint(claim, {"other": 1})
    await db.save_checkpoint(claim, state)
    assert await db.load_checkpoint(claim) == state


async def test_the_newest_two_are_kept(db: JobDb, raw: Raw) -> None:
    claim = await claimed(db)
    for number in range(5):
        await db.save_checkpoint(claim, {"n": number})

    assert raw(ROWS) == [(4, 0), (5, 0)]
    claim = await again(db, claim)
    assert await db.load_checkpoint(claim) == {"n": 4}
    await db.save_checkpoint(claim, {"n": 5})
    assert raw(ROWS) == [(5, 0), (6, 0)]


async def test_an_unchanged_state_writes_nothing(db: JobDb, raw: Raw) -> None:
    claim = await claimed(db)
    await db.save_checkpoint(claim, {"n": 1, "big": "x" * 300 * KB})
    before = raw("SELECT * FROM job_checkpoints")

    await db.save_checkpoint(claim, {"n": 1, "big": "x" * 300 * KB})
    claim = await again(db, claim)
    await db.load_checkpoint(claim)
    await db.save_checkpoint(claim, {"n": 1, "big": "x" * 300 * KB})

    assert raw("SELECT * FROM job_checkpoints") == before
    await db.save_checkpoint(claim, {"n": 1, "big": "x" * 300 * KB}, version=2)
    assert raw("SELECT max(seq) FROM job_checkpoints") == [(2,)]


def big_state(count: int = 40) -> dict[str, Any]:
    """About 10 MB that does not compress."""
    chance = random.Random(5)
    return {f"field {n}": chance.randbytes(250 * KB) for n in range(count)}


async def test_of_a_large_state_only_what_changed_is_written(db: JobDb, raw: Raw) -> None:
    claim = await claimed(db)
    state = big_state()
    await db.save_checkpoint(claim, state)
    all_of_it = sum(size for *_, size in raw(SIZES))
    assert all_of_it > 9_900 * KB

    for number in range(1, 4):
        state["field 7"] = state["field 7"][:-KB] + bytes(KB)[: KB - 1] + bytes([number])
        await db.save_checkpoint(claim, state)
        written = sum(size for seq, _, size in raw(SIZES) if seq == number + 1)
        assert written < 512 * KB

    assert sum(size for *_, size in raw(SIZES)) < all_of_it + 700 * KB
    claim = await again(db, claim)
    assert await db.load_checkpoint(claim) == state
    state["field 8"] = b"small"
    await db.save_checkpoint(claim, state)
    assert await db.load_checkpoint(claim) == state
    await db.save_checkpoint(claim, {"small": 1})
    await db.save_checkpoint(claim, {"small": 2})
    await db.save_checkpoint(claim, {"small": 3})
    assert len(raw(ROWS)) == 2
    assert await db.load_checkpoint(claim) == {"small": 3}


async def test_a_checkpoint_is_no_change_of_the_job(db: JobDb) -> None:
    claim = await claimed(db)
    before = await db.get_job(claim.job_id), await db.history(claim.job_id)
    for number in range(2):
        await db.save_checkpoint(claim, {"n": number})
    assert (await db.get_job(claim.job_id), await db.history(claim.job_id)) == before


async def test_checkpoints_go_when_their_stage_is_finished(db: JobDb, raw: Raw) -> None:
    claim = await claimed(db)
    await db.save_checkpoint(claim, {"n": 1})
    await db.fail_job(claim, "x", retry_in=0.0)
    assert len(raw(ROWS)) == 1
    second = await db.claim_job(claim.job_id, into=Stage.ENCODING)
    assert second is not None
    await db.finish_job(second, Stage.ENCODED)

    assert raw(ROWS) == []
    await db.delete_job((await saved(db)).job_id)
    assert raw(ROWS) == []


async def test_checkpoints_go_when_a_waiting_job_is_cancelled(db: JobDb, raw: Raw) -> None:
    for ends in (db.cancel_job, db.decline_job):
        claim = await saved(db)
        await db.release_job(claim)
        assert len(raw(ROWS)) == 1
        await ends(claim.job_id)
        assert raw(ROWS) == []


async def saved(db: JobDb) -> Claim:
    claim = await claimed(db)
    await db.save_checkpoint(claim, {"n": 1})
    return claim


async def test_a_damaged_checkpoint_is_passed_over_and_kept(
    db: JobDb, raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    claim = await claimed(db)
    await db.save_checkpoint(claim, {"n": 1})
    await db.save_checkpoint(claim, {"n": 2})
    raw(_flip(db.dialect))

    claim = await again(db, claim)
    with caplog.at_level(logging.WARNING, "pandora_db"):
        assert await db.load_checkpoint(claim) == {"n": 1}

    assert f"checkpoint 2 of job {claim.job_id} is damaged" in caplog.text
    assert [bool(one) for (one,) in raw("SELECT damaged FROM job_checkpoints ORDER BY seq")] == [
        False, True,
    ]  # fmt: skip
    for number in range(3, 7):
        await db.save_checkpoint(claim, {"n": number})
    assert raw("SELECT seq FROM job_checkpoints WHERE damaged") == [(2,)]
    assert await db.load_checkpoint(claim) == {"n": 6}


def _flip(dialect: str) -> str:
    """Change the last byte of the second checkpoint."""
    if dialect == "sqlite":
        damaged = "CAST(substr(data, 1, length(data) - 1) || x'7f' AS BLOB)"
        return f"UPDATE job_checkpoints SET data = {damaged} WHERE seq = 2"
    return "UPDATE job_checkpoints SET data = set_byte(data, length(data) - 1, 127) WHERE seq = 2"


async def test_when_no_good_copy_is_left_load_checkpoint_says_so(db: JobDb, raw: Raw) -> None:
    claim = await claimed(db)
    await db.save_checkpoint(claim, {"n": 1, "text": "x" * 100})
    await db.save_checkpoint(claim, {"n": 2, "text": "x" * 100})
    raw("UPDATE job_checkpoints SET data = substr(data, 1, 40)")

    with pytest.raises(CheckpointCorrupt) as caught:
        await db.load_checkpoint(claim.job_id, stage=Stage.ENCODING)

    assert (caught.value.job_id, caught.value.stage) == (claim.job_id, Stage.ENCODING)
    assert raw("SELECT seq FROM job_checkpoints WHERE damaged") == [], "who looks writes nothing"
    for _ in range(2):
        with pytest.raises(CheckpointCorrupt):
            await db.load_checkpoint(claim)


async def test_all_parts_of_a_damaged_checkpoint_are_kept(db: JobDb, raw: Raw) -> None:
    claim = await claimed(db)
    await db.save_checkpoint(claim, {"n": 1})
    await db.save_checkpoint(claim, big_state(5))
    parts = raw("SELECT part FROM job_checkpoints WHERE seq = 2 ORDER BY part")
    raw("UPDATE job_checkpoints SET data = substr(data, 1, 40) WHERE part = 3")

    claim = await again(db, claim)
    assert await db.load_checkpoint(claim) == {"n": 1}
    for number in range(2, 6):
        await db.save_checkpoint(claim, {"n": number})

    assert raw("SELECT part FROM job_checkpoints WHERE seq = 2 ORDER BY part") == parts
    assert len(parts) > 5


async def test_a_sound_checkpoint_that_cannot_be_read_is_not_passed_over(
    db: JobDb, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older state in its place would undo work without a word."""
    claim = await claimed(db)
    await db.save_checkpoint(claim, {"n": 1})
    await db.save_checkpoint(claim, CopyState(done={1}, target=Path()))
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, CopyState.__module__)
        with pytest.raises(CheckpointCorrupt, match="must be imported") as caught:
            await db.load_checkpoint(claim)

    assert not caught.value.damaged
    assert not any(damaged for (damaged,) in raw("SELECT damaged FROM job_checkpoints"))
    assert await db.load_checkpoint(claim) == CopyState(done={1}, target=Path())


async def test_a_missing_part_is_noticed(db: JobDb, raw: Raw) -> None:
    claim = await claimed(db)
    await db.save_checkpoint(claim, {"n": 1})
    await db.save_checkpoint(claim, big_state(2))
    raw("DELETE FROM job_checkpoints WHERE part = 1")

    assert await db.load_checkpoint(claim.job_id, stage=Stage.ENCODING) == {"n": 1}


async def test_a_checkpoint_of_another_job_is_refused(db: JobDb, raw: Raw) -> None:
    one, other = await saved(db), await claimed(db)
    raw("UPDATE job_checkpoints SET job_id = %s", other.job_id)

    with pytest.raises(CheckpointCorrupt):
        await db.load_checkpoint(other)
    assert await db.load_checkpoint(one) is None


async def test_an_older_version_is_upgraded(db: JobDb) -> None:
    claim = await claimed(db)
    await db.save_checkpoint(claim, {"n": 1}, version=1)

    def upgrade(state: Any, version: int) -> Any:
        return {"number": state["n"], "from": version}

    async def upgrade_later(state: Any, version: int) -> Any:
        await asyncio.sleep(0)
        return upgrade(state, version)

    expected = {"number": 1, "from": 1}
    assert await db.load_checkpoint(claim, version=3, upgrade=upgrade) == expected
    assert await db.load_checkpoint(claim, version=3, upgrade=upgrade_later) == expected
    assert await db.load_checkpoint(claim, version=1, upgrade=upgrade) == {"n": 1}
    with pytest.raises(CheckpointCorrupt, match="version 1 of the state, not 2; give an `upgrade`"):
        await db.load_checkpoint(claim, version=2)
    with pytest.raises(CheckpointCorrupt, match="version 1 of the state, this program knows 0"):
        await db.load_checkpoint(claim, version=0, upgrade=upgrade)


BAD_STATES: list[tuple[Any, str]] = [
    ({"a": {"lock": asyncio.Event()}}, "state['a']['lock']"),
    ({"files": [{"x": 1}, {"x": object()}]}, "state['files'][1]['x']"),
    ({"a": "\ud800"}, "state['a']"),
    ({1.5: "x"}, "a key of state"),
    ({"a": "x" * (17 * KB * KB)}, "too large; expected at most 16777216 bytes"),
]


@pytest.mark.parametrize(("state", "where"), BAD_STATES)
async def test_save_checkpoint_refuses_what_cannot_be_kept(
    db: JobDb, raw: Raw, state: Any, where: str
) -> None:
    claim = await claimed(db)
    with pytest.raises(InvalidInput) as caught:
        await db.save_checkpoint(claim, state)

    assert where in str(caught.value)
    assert raw(ROWS) == []


async def test_a_state_too_deep_is_refused(db: JobDb) -> None:
    claim = await claimed(db)
    state: Any = {}
    for _ in range(100):
        state = {"a": state}
    with pytest.raises(InvalidInput, match="deep"):
        await db.save_checkpoint(claim, state)
    with pytest.raises(InvalidInput, match="version is -1"):
        await db.save_checkpoint(claim, {}, version=-1)
    with pytest.raises(InvalidInput, match="stage is missing"):
        await db.load_checkpoint(claim.job_id)


async def test_an_unchanged_state_under_a_lost_claim_is_refused(db: JobDb) -> None:
    claim = await saved(db)
    await db.requeue_job(claim.job_id)

    with pytest.raises(LeaseLost):
        await db.save_checkpoint(claim, {"n": 1})


async def test_a_large_checkpoint_under_a_lost_claim_is_refused(db: JobDb, raw: Raw) -> None:
    claim = await claimed(db)
    await db.requeue_job(claim.job_id)

    with pytest.raises(LeaseLost):
        await db.save_checkpoint(claim, big_state(3))

    assert raw(ROWS) == []


async def test_a_checkpoint_in_a_transaction_that_is_undone_was_never_kept(db: JobDb) -> None:
    claim = await claimed(db)
    with suppress(ZeroDivisionError):
        async with db.transaction() as tx:
            await tx.save_checkpoint(claim, {"n": 1})
            raise ZeroDivisionError
    assert await db.load_checkpoint(claim) is None
    await db.save_checkpoint(claim, {"n": 1})
    assert await db.load_checkpoint(claim) == {"n": 1}
    async with db.transaction() as tx:
        await tx.save_checkpoint(claim, {"n": 2})
        assert await tx.load_checkpoint(claim) == {"n": 2}
    assert await db.load_checkpoint(claim) == {"n": 2}


async def test_loading_beside_saves_of_the_same_claim_disturbs_none(db: JobDb) -> None:
    claim = await claimed(db)

    async def save() -> None:
        for number in range(30):
            await db.save_checkpoint(claim, {"n": number})

    async def load() -> None:
        for _ in range(30):
            claim.saved = None
            await db.load_checkpoint(claim)

    await asyncio.gather(save(), load(), load())
    assert await db.load_checkpoint(claim) == {"n": 29}


async def test_a_number_that_was_tried_is_not_tried_again(
    db: JobDb, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its write may be under way still, and must not come down on a later one."""
    claim = await saved(db)
    driver: Any = db._driver
    with monkeypatch.context() as patch:

        async def lost(*_: object, **__: object) -> None:
            raise OutcomeUnknown(None, "save_checkpoint")

        patch.setattr(driver, "write", lost)
        with pytest.raises(OutcomeUnknown):
            await db.save_checkpoint(claim, {"n": 2})
    await db.save_checkpoint(claim, {"n": 3})

    assert raw(ROWS) == [(1, 0), (3, 0)]


async def test_checkpoints_of_one_claim_at_once_are_saved_one_by_one(db: JobDb, raw: Raw) -> None:
    claim = await claimed(db)
    states: list[Any] = [{"n": n, "big": bytes([n]) * (n % 3) * 100 * KB} for n in range(12)]

    await asyncio.gather(*(db.save_checkpoint(claim, state) for state in states))

    found = await db.load_checkpoint(claim.job_id, stage=Stage.ENCODING)
    assert found in states
    heads = raw("SELECT count(*) FROM job_checkpoints WHERE part = 0")
    assert heads == [(2,)]
