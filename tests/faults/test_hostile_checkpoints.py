"""Checkpoints that somebody or something changed (T22)."""

from __future__ import annotations

import pytest

from tests.faults.hostile_checkpoints import WRONG, Judge, corpus, damage, fuzz


def _nothing_wrong(judge: Judge) -> None:
    assert not [kind for kind in WRONG if judge.tally[kind]], judge.notes


async def test_every_flip_and_every_cut_is_found(seed: int) -> None:
    judge = await damage(seed, flipped=60, cut=15)

    _nothing_wrong(judge)
    assert judge.tally["flips"] > 5_000
    assert judge.tally["cuts"] > 1_000


async def test_hostile_contents_are_refused_and_cost_little() -> None:
    judge = await corpus(thorough=False)

    _nothing_wrong(judge)
    assert judge.tally["refused"] == judge.tally["cases"] > 1_000
    assert judge.tally["peak MB"] < 64
    assert judge.slowest[0] < 10, judge.slowest


@pytest.mark.parametrize("rounds", [2_000])
async def test_random_contents_raise_nothing_else(seed: int, rounds: int) -> None:
    judge = await fuzz(seed, rounds)

    _nothing_wrong(judge)
    assert judge.tally["refused"] > rounds // 10
