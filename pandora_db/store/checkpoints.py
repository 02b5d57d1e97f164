"""Checkpoints: the state of a job at its stage, from which another attempt goes on."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

from pandora_db.codecs.checkpoint import (
    Entry,
    Place,
    Segment,
    blob_digest,
    decode_manifest,
    encode_manifest,
    is_manifest,
    join_state,
    split_state,
)
from pandora_db.codecs.checks import check_int
from pandora_db.codecs.claim import check_into, check_job
from pandora_db.drivers.base import Row, Session, Unit
from pandora_db.errors import CheckpointCorrupt, InvalidInput, OutcomeUnknown
from pandora_db.models.claim import Claim
from pandora_db.models.limits import MAX_VERSION
from pandora_db.models.stage import StageCode
from pandora_db.store.held_claim import HeldClaim, check_claim
from pandora_db.store.leases import lease_args
from pandora_db.store.refusals import why_refused
from pandora_db.store.repository import Repository

log = logging.getLogger("pandora_db")

Upgrade = Callable[[Any, int], Any]
_AT_ONCE = 8  # parts in one statement: 2 MB


class Stored(NamedTuple):
    """A checkpoint in the database: where its parts stand, in order."""

    seq: int
    entries: tuple[Entry, ...]
    whole: bool

    @property
    def digests(self) -> list[bytes]:
        """What it says, part by part."""
        return [entry.digest for entry in self.entries]

    @property
    def rows(self) -> set[tuple[int, int]]:
        """(seq, part) of every row that it needs."""
        return {(self.seq, 0), *((entry.seq, entry.part) for entry in self.entries)}


class Saved(NamedTuple):
    """What a claim knows of its checkpoints: the number of the last one, and the good ones.

    `checked` says that the newest was read or written under this claim: its parts can be built on.
    """

    last: int
    newest: Stored | None
    before: Stored | None
    checked: bool


class Checkpoints(Repository):
    """Part of `Store`."""

    async def save_checkpoint(self, claim: Claim, state: object, *, version: int = 1) -> None:
        """Keep the state of the work; whoever claims the job for this stage next finds it.

        Of a large state only what changed is written, in segments of at most 256 KB, and an
        unchanged one writes nothing; under a new claim that holds after `load_checkpoint`. The two
        newest are kept until the stage is finished. The state must not change during the call.

        Args:
            claim: the claim under which the work is done.
            state: a dict, list, pydantic model or plain value; see the guide for the types. At
                most 16 MiB when packed.
            version: the version of the state's shape, which `load_checkpoint` compares.

        Raises:
            LeaseLost: the claim no longer counts; nothing was written.
            OutcomeUnknown: the connection was lost, and did not come back in time; save again.
            InvalidInput: the state holds what cannot be kept; the error names the path in it.
        """
        held = check_claim(claim)
        self._leases.check(held)
        check_int(version, "version", 0, MAX_VERSION)
        place = Place(held.job_id, held.stage.value)
        segments = await split_state(state, version=version, place=place)
        with self._leases.noting_loss(held):
            await self._save_split(held, segments, version, place)

    async def _save_split(
        self, claim: HeldClaim, segments: Sequence[Segment], version: int, place: Place
    ) -> None:
        async with claim.saving:
            claim.shared = claim.shared or not self._leases.lasting
            known = claim.saved if isinstance(claim.saved, Saved) else await self._known(place)
            if known.checked and known.newest and known.newest.digests == _digests(segments):
                claim.saved = _remembered(claim, known)
                if not await self._session.read("find_leases", lease_args([claim])):
                    raise await why_refused(self._session, claim)
                return
            claim.saved = None  # until the outcome is known
            stored = await self._save(claim, segments, version, known)
            made = Saved(stored.seq, stored, known.newest, checked=True)
            claim.saved = _remembered(claim, made)

    async def load_checkpoint(
        self,
        job_id: int | Claim,
        *,
        stage: StageCode | int | None = None,
        version: int | None = None,
        upgrade: Upgrade | None = None,
    ) -> Any:  # noqa: ANN401 - whatever was saved
        """The newest good checkpoint of a job at a stage; None when there is none.

        A damaged one is passed over for the one before, with a warning in the log; its bytes are
        kept for inspection until the stage is finished. The lease is not looked at, and a job that
        is not there has no checkpoint.

        Args:
            job_id: the claim under which the work goes on, or the id of a job to look at.
            stage: the working stage, where an id is given.
            version: the version of the state's shape that this program knows; None takes any.
            upgrade: makes a state of an older version into one of `version`: it is called with the
                state and its version, and may be a coroutine function.

        Raises:
            CheckpointCorrupt: no good copy is left; or this program cannot read a sound one, such
                as one of a newer version, or of an older one without `upgrade`.
            InvalidInput: an id without a stage, or another bad argument.
        """
        claim = job_id if isinstance(job_id, HeldClaim) else None
        place = self._place(job_id, stage)
        if version is not None:
            check_int(version, "version", 0, MAX_VERSION)
        async with claim.saving if claim is not None else nullcontext():
            heads = await self._session.read("get_checkpoint_heads", place._asdict())
            if not heads:
                return None
            number, state, found = await self._newest_good(heads, place, claim)
            if claim is not None and (claim.saved is None or number) and self._leases.lasting:
                known = _known(heads[number:], place)
                read = known._replace(last=heads[0][0], checked=True)
                claim.saved = _remembered(claim, read)
        return await _in_version(state, found, version, upgrade, place)

    def _place(self, job_id: int | Claim, stage: object) -> Place:
        if isinstance(job_id, HeldClaim):
            self._leases.check(job_id)
            return Place(job_id.job_id, job_id.stage.value)
        number = check_job(job_id)
        if stage is None:
            raise InvalidInput(
                "stage is missing: give a claim, or an id and a stage", field="stage"
            )
        return Place(number, check_into(stage, "stage").value)

    async def _newest_good(
        self, heads: Sequence[Row], place: Place, claim: HeldClaim | None
    ) -> tuple[int, object, int]:
        """Which of the heads it is, with its state and version; marks those that are damaged."""
        failure = CheckpointCorrupt("every copy is damaged", **place._asdict())
        for number, (seq, damaged, data) in enumerate(heads):
            if damaged:
                continue
            try:
                state, version = await join_state(await self._parts(place, seq, data), place=place)
            except CheckpointCorrupt as error:
                if not error.damaged:
                    raise
                failure = error
                log.warning("checkpoint %d of job %d is damaged: %s", seq, place.job_id, error)
                if claim is not None:  # who only looks changes nothing
                    args = {**place._asdict(), "seq": seq, "token": claim.token}
                    await self._session.take("mark_checkpoint_damaged", args)
            else:
                return number, state, version
        raise failure

    async def _known(self, place: Place) -> Saved:
        return _known(await self._session.read("get_checkpoint_heads", place._asdict()), place)

    async def _parts(self, place: Place, seq: int, data: bytes) -> list[bytes]:
        """The segments of the checkpoint whose part 0 is `data`."""
        if not is_manifest(data):
            return [data]
        entries = decode_manifest(data, place)
        wanted = {"seqs": [one.seq for one in entries], "parts": [one.part for one in entries]}
        rows = await self._session.read("get_checkpoint_parts", {**place._asdict(), **wanted})
        found = {(row[0], row[1]): row[2] for row in rows}
        missing = [one for one in entries if (one.seq, one.part) not in found]
        if missing:
            raise CheckpointCorrupt(
                f"part {missing[0].part} of checkpoint {seq} is missing",
                job_id=place.job_id, stage=place.stage,
            )  # fmt: skip
        return [found[one.seq, one.part] for one in entries]

    async def _save(
        self,
        claim: HeldClaim,
        segments: Sequence[Segment],
        version: int,
        known: Saved,
    ) -> Stored:
        # A number that was tried is not tried again: its write may be under way still.
        seq = claim.last_saved = max(known.last, claim.last_saved) + 1
        args: dict[str, Any] = {
            "job_id": claim.job_id, "stage": claim.stage.value, "token": claim.token, "seq": seq,
        }  # fmt: skip
        one = len(segments) == 1
        if one and all(old is None or old.whole for old in (known.newest, known.before)):
            only = (Entry(seq, 0, segments[0].digest),)
            args |= {"data": segments[0].blob, "oldest": known.newest.seq if known.newest else seq}
            if await self._session.write("save_checkpoint", args, claim.job_id) is None:
                raise await why_refused(self._session, claim)
            return Stored(seq, only, whole=True)
        try:
            async with self._session.unit() as unit:
                if not await unit.read("lock_claimed", args):
                    raise await why_refused(unit, claim)
                entries: tuple[Entry, ...]
                if one:
                    entries = (Entry(seq, 0, segments[0].digest),)
                    args["data"] = segments[0].blob
                else:
                    base = known.newest if known.checked else None
                    entries = await _save_parts(unit, args, segments, base)
                    args["data"] = encode_manifest(
                        entries, version=version, place=Place(claim.job_id, claim.stage.value)
                    )
                await unit.write("save_checkpoint", args | {"oldest": 0}, claim.job_id)
                stored = Stored(seq, entries, whole=one)
                await _drop(unit, args, known, stored)
        except OutcomeUnknown as error:
            raise OutcomeUnknown(None, "save_checkpoint") from error.__cause__
        return stored


async def _save_parts(
    unit: Unit,
    args: dict[str, Any],
    segments: Sequence[Segment],
    newest: Stored | None,
) -> tuple[Entry, ...]:
    """Write the segments that are not stored yet; where each of them stands."""
    there = {} if newest is None or newest.whole else {one.digest: one for one in newest.entries}
    entries: list[Entry] = []
    fresh: list[dict[str, Any]] = []
    for number, segment in enumerate(segments, 1):
        entry = there.get(segment.digest) or Entry(args["seq"], number, segment.digest)
        entries.append(entry)
        if entry.seq == args["seq"]:
            fresh.append(args | {"part": number, "data": segment.blob})
    for start in range(0, len(fresh), _AT_ONCE):
        await unit.write_all("save_checkpoint_part", fresh[start : start + _AT_ONCE])
    return tuple(entries)


async def _drop(unit: Session, args: dict[str, Any], known: Saved, stored: Stored) -> None:
    """Take away what only the checkpoint before the last one needed."""
    if known.before is None:
        return
    needed = stored.rows
    if known.newest is not None:
        needed |= known.newest.rows
    old = sorted(known.before.rows - needed)
    wanted = {"seqs": [seq for seq, _ in old], "parts": [part for _, part in old]}
    await unit.take("drop_checkpoint_parts", args | wanted)


def _remembered(claim: HeldClaim, saved: Saved) -> Saved | None:
    """What the next save goes by; None where a transaction has saved: what is stored then."""
    return None if claim.shared else saved


def _digests(segments: Sequence[Segment]) -> list[bytes]:
    return [segment.digest for segment in segments]


def _known(heads: Sequence[Sequence[Any]], place: Place) -> Saved:
    good: list[Stored | None] = []
    for seq, damaged, data in heads:
        if damaged or len(good) == 2:  # noqa: PLR2004 - the newest two
            continue
        try:
            if is_manifest(data):
                good.append(Stored(seq, tuple(decode_manifest(data, place)), whole=False))
            else:
                entry = Entry(seq, 0, blob_digest(data))
                good.append(Stored(seq, (entry,), whole=True))
        except CheckpointCorrupt:  # load_checkpoint tells; nothing of it is used again
            continue
    good += [None, None]
    return Saved(heads[0][0] if heads else 0, good[0], good[1], checked=False)


async def _in_version(
    state: object, found: int, version: int | None, upgrade: Upgrade | None, place: Place
) -> object:
    if version is None or found == version:
        return state
    if found > version:
        reason = f"it is of version {found} of the state, this program knows {version}"
    elif upgrade is None:
        reason = f"it is of version {found} of the state, not {version}; give an `upgrade`"
    else:
        made = upgrade(state, found)
        return await made if inspect.isawaitable(made) else made
    raise CheckpointCorrupt(reason, job_id=place.job_id, stage=place.stage, damaged=False)
