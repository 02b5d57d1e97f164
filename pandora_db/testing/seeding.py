"""Sample data: jobs of a few users at every stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pandora_db.models import Concat, Preset, Stage
from pandora_db.testing.factories import insert_job_at

if TYPE_CHECKING:
    from pandora_db.store import Store

_AUTHORS = ("mika", "juno", "sasha")
_PRESETS = (
    Preset.STANDARD,
    Preset.PSEUDO_LOSSLESS,
    Preset.GPU,
    Preset.concat(Concat.DEFAULT),
    Preset.concat(Concat.SOME_SUBS),
)
# 2024-01-01 00:00:00 UTC; the jobs follow a minute apart.
_FIRST_REQUEST = 1_704_067_200


async def seed(store: Store, *, per_stage: int = 1) -> dict[Stage, list[int]]:
    """Insert `per_stage` jobs at every stage of the encode pipeline, finished ones archived.

    Authors, presets and guilds take turns, and the jobs were requested a minute apart, so that
    filters and orders have something to tell apart. The contents are the same in every run.

    Args:
        store: an open handle, or the `tx` of its transaction.
        per_stage: how many jobs at each stage.

    Returns:
        The ids of the jobs at each stage, oldest first.
    """
    ids: dict[Stage, list[int]] = {stage: [] for stage in Stage}
    number = 0
    for _ in range(per_stage):
        for stage, members in ids.items():
            author = number % len(_AUTHORS)
            job_id = await insert_job_at(
                store,
                stage,
                author=_AUTHORS[author],
                author_id=100 + author,
                guild_id=900 + number % 2,
                link=f"https://videos.example/seed-{number}.mkv",
                preset=_PRESETS[number % len(_PRESETS)],
                message_id=5_000 + number,
                channel_id=600,
                requested_at=_FIRST_REQUEST + 60 * number,
            )
            members.append(job_id)
            number += 1
    return ids
