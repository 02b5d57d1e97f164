"""The words and bars of a message."""

from __future__ import annotations

import math
import time
from itertools import pairwise

import pytest

from pandora_db import InvalidInput, Stage
from pandora_db.discord import progress_bar, render_job
from pandora_db.discord.text import MAX_CONTENT, fit, ordinal, plain
from tests.support.messages import row


def test_a_bar_is_full_at_the_end_only() -> None:
    assert progress_bar(0.0, 4) == "▱▱▱▱"
    assert progress_bar(0.5, 4) == "▰▰▱▱"
    assert progress_bar(0.999, 4) == "▰▰▰▱"
    assert progress_bar(1, 4) == "▰▰▰▰"
    counts = [progress_bar(step / 1000).count("▰") for step in range(1001)]
    assert all(one <= later for one, later in pairwise(counts))


@pytest.mark.parametrize(("fraction", "width"), [(1.1, 4), (-0.1, 4), (0.5, 0), (0.5, 101)])
def test_a_bar_of_nothing_is_refused(fraction: float, width: int) -> None:
    with pytest.raises(InvalidInput):
        progress_bar(fraction, width)


def test_places_in_words() -> None:
    assert [ordinal(n) for n in (1, 2, 3, 9)] == ["next", "second", "third", "ninth"]
    assert [ordinal(n) for n in (10, 11, 12, 13, 21, 22, 23, 101, 111, 112)] == [
        "10th", "11th", "12th", "13th", "21st", "22nd", "23rd", "101st", "111th", "112th",
    ]  # fmt: skip
    with pytest.raises(InvalidInput):
        ordinal(0)


def test_a_job_at_each_of_its_ends() -> None:
    said = {
        stage: render_job(row(7, ready=stage.value, error="no space left"))
        for stage in (Stage.UPLOADED, Stage.FAILED, Stage.CANCELLED, Stage.DECLINED)
    }
    assert list(said.values()) == [
        "**Job 7** is done",
        "**Job 7** failed: no space left",
        "**Job 7** was cancelled",
        "**Job 7** was cancelled",
    ]


def test_a_job_on_its_way() -> None:
    assert render_job(row(7, ready=0)) == "**Job 7** is queued"
    assert render_job(row(7, ready=0), 3) == "**Job 7** is queued: you are third"
    assert render_job(row(7)) == "**Job 7**"
    half = row(7, progress=0.5, current_step="encoding")
    assert render_job(half, width=4) == "**Job 7**: encoding\n▰▰▱▱ 50 %"
    assert render_job(half._replace(ready=2, hold=1), width=4) == (
        "**Job 7** is paused: encoding\n▰▰▱▱ 50 %"
    )
    assert render_job(half._replace(hold=1)).startswith("**Job 7** is being paused: encoding\n")
    assert render_job(half._replace(hold=2)).startswith("**Job 7** is being cancelled: encoding\n")


def test_a_job_that_waits_for_its_time() -> None:
    later = time.time() + 90
    shown = f"<t:{math.ceil(later)}:R>"
    assert render_job(row(7, ready=0, attempt=1, not_before=later), 1) == (
        f"**Job 7** is tried again {shown}"
    )
    assert render_job(row(7, ready=0, not_before=later), 1) == f"**Job 7** goes on {shown}"
    due = row(7, ready=0, attempt=1, not_before=time.time() - 1)
    assert render_job(due, 1) == "**Job 7** is queued: you are next"


def test_the_text_of_others_mentions_nobody_and_formats_nothing() -> None:
    text = plain("**x** @everyone <@301>\n`code` [a](https://b) \\*")
    assert "@everyone" not in text
    assert "<@" not in text
    assert text.startswith("\\*\\*x\\*\\* ")
    assert "\\`code\\`" in text
    assert text.endswith("\\\\\\*")
    assert "\n" not in text
    assert len(plain("x" * 5000)) == 300


def test_content_fits_a_message() -> None:
    assert fit("x" * MAX_CONTENT) == "x" * MAX_CONTENT
    assert len(fit("x" * (MAX_CONTENT + 1))) == MAX_CONTENT
