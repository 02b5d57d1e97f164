"""What claims are asked with, and the stages that they lead through."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from itertools import islice
from typing import Any, cast

from pandora_db.codecs.checks import check_id, check_text
from pandora_db.codecs.job_type import check_job_type
from pandora_db.codecs.json_text import encode_tags
from pandora_db.codecs.stage import check_stage
from pandora_db.errors import InvalidInput
from pandora_db.models.checks import check_tags, refuse
from pandora_db.models.limits import MAX_AUTHOR, MAX_KEY
from pandora_db.models.pipeline import Pipeline, pipeline_of
from pandora_db.models.stage import StageCode, StageKind, spelled, stage_info

__all__ = [
    "check_into",
    "check_job",
    "check_lease",
    "check_names",
    "check_route",
    "check_seconds",
    "claim_filters",
    "ending",
    "waiting_before",
]

_YEAR = 31_536_000
_MAX_NAMES = 1_000


def check_job(value: object, field: str = "job_id") -> int:
    """The id of a job, where a claim is taken too; raises `InvalidInput`."""
    if not isinstance(value, int):
        refuse(field, value, "a Claim, as claim_jobs() gives it, or the id of a job")
    return check_id(value, field)


def check_into(value: object, field: str = "into") -> StageCode:
    """A stage of work; raises `InvalidInput` for any other."""
    into = check_stage(value, field)
    if into.kind is not StageKind.WORKING:
        raise InvalidInput(
            f"{field} is {spelled([into])}, where nobody works; "
            f"expected one of {_others(into, StageKind.WORKING)}",
            field=field,
        )
    return into


def check_route(stage: object, into: object) -> tuple[StageCode, StageCode]:
    """A waiting stage and the working stage that a claim takes its jobs to."""
    start, end = check_stage(stage), check_into(into)
    if start.kind is not StageKind.WAITING:
        raise InvalidInput(
            f"stage is {spelled([start])}, where no job waits for a worker; "
            f"expected one of {_others(start, StageKind.WAITING)}",
            field="stage",
        )
    if start not in waiting_before(end):
        raise InvalidInput(
            f"a job goes no way from {spelled([start])} into {spelled([end])}; "
            f"there it comes from {spelled(waiting_before(end))}",
            field="into",
        )
    return start, end


@cache
def waiting_before(into: StageCode) -> tuple[StageCode, ...]:
    """The waiting stages from which a job may go `into` a working one."""
    stages = _pipeline(into).stages
    return tuple(stage for stage in stages if stage.kind is StageKind.WAITING and stage < into)


@cache
def ending(stage: StageCode, kind: StageKind) -> StageCode:
    """The stage of that kind in the pipeline of `stage`: the last one, as in recover_jobs.

    Of CANCELLED and DECLINED it is CANCELLED: somebody had begun.
    """
    return [one for one in _pipeline(stage).stages if one.kind is kind][-1]


def check_seconds(value: object, field: str) -> float:
    """A number of seconds, up to a year; raises `InvalidInput`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _YEAR:
        refuse(field, value, f"a number of seconds from 0 to {_YEAR} (a year)")
    return float(value)


def check_lease(value: object, heartbeat: float) -> float:
    """The length of a lease, which has to outlast the pause between its renewals."""
    seconds = check_seconds(value, "lease")
    if seconds <= heartbeat:
        raise InvalidInput(
            f"lease is {seconds:g} s; expected more than heartbeat, which is {heartbeat:g} s: "
            "open the handle with a shorter heartbeat",
            field="lease",
        )
    return seconds


def claim_filters(
    names: object, job_type: object, guild_id: object, author: object, tags: object
) -> tuple[dict[str, Any], frozenset[str]]:
    """The arguments and flags of the filters that were given; raises `InvalidInput`."""
    args: dict[str, Any] = {}
    flags: set[str] = set()
    offered = check_tags(tags)
    if offered:
        args["tags"] = encode_tags(offered)
    flags.add("tagged" if offered else "untagged")
    if names is not None:
        args["names"] = check_names(names)
    if job_type is not None:
        args["job_type"] = check_job_type(job_type).value
    if guild_id is not None:
        args["guild_id"] = check_id(guild_id, "guild_id")
    if author is not None:
        if isinstance(author, int):
            args["author_id"] = check_id(author, "author")
        else:
            args["author"] = check_text(author, "author", MAX_AUTHOR, least=1)
    flags |= args.keys() - {"tags"}
    return args, frozenset(flags)


def check_names(value: object) -> list[str]:
    """Several names of jobs; a single text is none. Raises `InvalidInput`."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        refuse("names", value, "several names of jobs")
    given = cast("Iterable[object]", value)
    names = [check_text(name, "names", MAX_KEY, least=1) for name in islice(given, _MAX_NAMES + 1)]
    if not 1 <= len(names) <= _MAX_NAMES:
        found = f"more than {_MAX_NAMES:,}" if names else "none"
        raise InvalidInput(f"names has {found}; expected 1 to {_MAX_NAMES:,} names", field="names")
    return names


def _others(stage: StageCode, kind: StageKind) -> str:
    """The stages of that kind in the pipeline of `stage`."""
    return spelled(one for one in _pipeline(stage).stages if one.kind is kind)


def _pipeline(stage: StageCode) -> Pipeline:
    return pipeline_of(stage_info(stage).pipeline)
