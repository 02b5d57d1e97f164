"""Pipelines that users define, without a database."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from pandora_db import (
    InvalidInput,
    Job,
    JobRow,
    JobStatus,
    JobType,
    Stage,
    StageCode,
    StageKind,
    TaskStage,
    UnknownCode,
    define_pipeline,
)
from pandora_db.codecs.claim import check_into, check_route
from pandora_db.codecs.stage import check_stage, live_range
from pandora_db.models.pipeline import PIPELINES
from pandora_db.models.stage import STAGES
from tests.support.pipelines import Audiobook, define_audiobook

GOOD = {
    "QUEUED": (500, "waiting"),
    "WORKING": (501, "working"),
    "DONE": (502, "done"),
    "FAILED": (503, "failed"),
    "CANCELLED": (504, "cancelled"),
}


def enum_of(**members: Any) -> Any:
    # The functional form: every test writes its own members.
    return StageCode("Other", members)  # type: ignore[call-overload,arg-type]


def define(number: Any = 201, name: Any = "Other", /, **members: Any) -> Any:
    return define_pipeline(job_type=number, name=name)(enum_of(**{**GOOD, **members}))


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


def test_a_pipeline_in_a_few_lines() -> None:
    @define_pipeline(job_type=220, name="Video build")
    class Build(StageCode):
        QUEUED = 700, StageKind.WAITING
        BUILDING = 701, StageKind.WORKING
        READY_TO_SHIP = 702, "waiting"
        SHIPPING = 703, "working"
        BUILT = 750, StageKind.DONE
        FAILED = 751, StageKind.FAILED
        CANCELLED = 752, StageKind.CANCELLED

    assert Build(701) is Build.BUILDING == 701
    assert (Build.BUILDING.kind, Build.BUILDING.terminal) == (StageKind.WORKING, False)
    assert str(Build.READY_TO_SHIP.info) == "702 Ready to ship (waiting)"
    assert {stage: stage.info.returns_to for stage in Build if stage.info.returns_to} == {
        Build.BUILDING: 700,
        Build.SHIPPING: 702,
    }
    with pytest.raises(UnknownCode, match="known are 700 QUEUED"):
        Build(0)
    job_type = JobType(220)
    assert (job_type, job_type.name, repr(job_type)) == (
        220,
        "VIDEO_BUILD",
        "<JobType.VIDEO_BUILD: 220>",
    )
    assert job_type is JobType(220) is pickle.loads(pickle.dumps(job_type))  # noqa: S301 - ours
    assert copy.deepcopy(job_type) is job_type
    assert pickle.loads(pickle.dumps(Stage.ENCODED)) is Stage.ENCODED  # noqa: S301 - ours


def test_stages_of_every_pipeline_are_taken_and_come_back_as_members() -> None:
    define_audiobook()

    assert check_stage(310) is check_stage(Audiobook.CONVERTING) is Audiobook.CONVERTING
    assert check_stage(101) is TaskStage.RUNNING
    assert check_route(320, 330) == (Audiobook.CONVERTED, Audiobook.TAGGING)
    assert live_range(Audiobook.CONVERTED) == (300, 320)
    assert live_range(Audiobook.FAILED) == (300, 330)
    for start, into, told in (
        (0, 101, "Stage.QUEUED into TaskStage.RUNNING; there it comes from TaskStage.QUEUED"),
        (100, 1, "TaskStage.QUEUED into Stage.DOWNLOADING; there it comes from Stage.QUEUED"),
        (Stage.QUEUED, Audiobook.TAGGING, "Stage.QUEUED into Audiobook.TAGGING; there it comes"),
    ):
        with pytest.raises(InvalidInput, match=f"a job goes no way from {told}"):
            check_route(start, into)
    own = r"expected one of Audiobook\.CONVERTING, Audiobook\.TAGGING$"
    with pytest.raises(InvalidInput, match=own):
        check_into(Audiobook.PREPARING)


def test_a_stage_that_was_not_defined_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match=r"stage is Audiobook\.QUEUED, of no pipeline.*define_p"):
        check_stage(Audiobook.QUEUED)
    with pytest.raises(InvalidInput, match=r"ready is 301; .*was not given to define_pipeline"):
        Job(author="a", ready=Audiobook.QUEUED)
    with pytest.raises(UnknownCode):
        _ = Audiobook.QUEUED.info


@pytest.mark.parametrize("defining", [False, True])
def test_the_same_again_changes_nothing(defining: bool) -> None:
    first = define()

    again = define() if defining else define_pipeline(job_type=201, name="Other")(first)

    assert again is first
    assert check_stage(enum_of(**GOOD).QUEUED) is first.QUEUED


BAD: list[tuple[dict[str, Any], str]] = [
    ({"QUEUED": (199, "waiting")}, "QUEUED has the code 199; expected 200 to 32767"),
    ({"DONE": (32768, "done")}, "DONE has the code 32768; expected 200 to 32767"),
    ({"DONE": (502, "working")}, "no stage is done"),
    ({"DONE": (501, "done")}, "WORKING and DONE have one code, 501"),
    ({"done": (505, "done")}, "two stages would be called 'Done'"),
    ({"QUEUED": 500}, "QUEUED is not a code and a kind; write QUEUED = 200"),
    ({"QUEUED": (500, "wating")}, "QUEUED is not a code and a kind"),
    ({"QUEUED": ("500", "waiting")}, "QUEUED is not a code and a kind"),
    ({"EARLY": (499, "working")}, "no waiting stage comes before EARLY"),
    ({"LATE": (505, "waiting")}, "LATE comes after CANCELLED, where a job has ended"),
    ({"QUEUED": (301, "waiting")}, "301 of QUEUED is taken by Queued of the pipeline Audiobook"),
    ({"QUEUED": (302, "waiting"), "WORKING": (305, "working")}, "302 to 504 and those of Audi"),
]


@pytest.mark.parametrize(("members", "message"), BAD)
def test_stages_that_make_no_pipeline(members: dict[str, Any], message: str) -> None:
    define_audiobook()
    before = (dict(PIPELINES), dict(STAGES))

    with pytest.raises(InvalidInput, match=message) as caught:
        define(**members)

    assert caught.value.field == "stages"
    assert before == (PIPELINES, STAGES)
    assert define() is not None


@pytest.mark.parametrize("kind", ["QUEUED", "WORKING", "DONE", "FAILED", "CANCELLED"])
def test_every_kind_is_needed(kind: str) -> None:
    missing = GOOD[kind][1]
    with pytest.raises(InvalidInput, match=f"no stage is {missing}|no waiting stage"):
        define_pipeline(job_type=201, name="Other")(enum_of(**without(kind)))


@pytest.mark.parametrize(
    ("number", "name", "message"),
    [
        (1, "Other", "job_type is 1; expected 200 to 32767"),
        (100, "Other", "job_type is 100; expected 200 to 32767"),
        (32768, "Other", "expected 200 to 32767"),
        (True, "Other", "job_type is True; expected an int"),
        ("201", "Other", "job_type is '201'; expected an int"),
        (201, "", "name is ''; expected letters"),
        (201, "a\0b", "expected letters"),
        (201, None, "name is None"),
        (201, "x" * 65, "name has 65 characters"),
        (201, "encode", "there is a pipeline Encode already"),
        (201, "Task", "there is a pipeline Task already"),
        (200, "Other", "job type 200 is taken by the pipeline Audiobook"),
    ],
)
def test_numbers_and_names_that_are_refused(number: Any, name: Any, message: str) -> None:
    define_audiobook()
    with pytest.raises(InvalidInput, match=message) as caught:
        define(number, name)
    assert caught.value.field == ("name" if number == 201 else "job_type")


@pytest.mark.parametrize("what", [int, StageCode, Stage.QUEUED, None])
def test_what_is_no_enum_of_stages(what: Any) -> None:
    with pytest.raises(InvalidInput, match=r"expected an enum of stages: class Other\(StageCode\)"):
        define_pipeline(job_type=201, name="Other")(what)


def test_a_job_stands_in_one_pipeline() -> None:
    define_audiobook()

    by_stage = Job(author="a", ready=Audiobook.CONVERTED)
    by_type = Job(author="a", job_type=200)
    task = Job(author="a", job_type=JobType.TASK)

    assert (by_stage.job_type, by_stage.ready) == (JobType(200), Audiobook.CONVERTED)
    assert (by_type.job_type, by_type.ready) == (JobType(200), Audiobook.PREPARING)
    assert (task.job_type, task.ready) == (JobType.TASK, TaskStage.QUEUED)
    assert by_stage.model_copy(update={"author": "b"}).job_type == 200
    assert by_stage.model_copy(update={"ready": Stage.ENCODED}).job_type is JobType.ENCODE
    assert Job.model_validate_json('{"author": "a", "ready": 100}').job_type is JobType.TASK
    assert Job.model_json_schema()["properties"]["ready"]["type"] == "integer"
    wrong: list[tuple[int, int]] = [(1, 301), (200, 0), (100, 310), (200, 100), (1, 100)]
    for job_type, ready in wrong:
        with pytest.raises(InvalidInput, match=r"ready is .* of the pipeline .*; the job's is"):
            Job(author="a", job_type=job_type, ready=ready)


def test_rows_are_decoded_by_their_pipeline() -> None:
    define_audiobook()
    row = JobRow(7, "mika", 5, 200, 1, None, "", "", 310, 0, 0, None, None, archived=False)

    data = row.to_job_metadata()

    assert (data.job_type, data.ready, data.status) == (200, Audiobook.CONVERTING, "running")
    assert '"job_type":"AUDIOBOOK"' in data.model_dump_json()
    assert '"ready":"CONVERTING"' in data.model_dump_json()
    assert "Converting" in str(row)
    assert row._replace(ready=300).status is JobStatus.QUEUED
    unknown = row._replace(ready=42)
    assert "stage 42" in str(unknown)
    with pytest.raises(UnknownCode):
        unknown.to_job_metadata()
