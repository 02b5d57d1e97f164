"""Classes and values of the checkpoint tests, and a comparison that sees types."""

from __future__ import annotations

import enum
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any
from uuid import UUID

from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, RootModel

from pandora_db.codecs.checkpoint import Place, join_state, split_state

PLACE = Place(42, 3)


class Colour(enum.Enum):
    RED = "r"
    GREEN = (1, 2)


class Level(enum.IntEnum):
    LOW = -10
    HIGH = 10


class Word(enum.StrEnum):
    ONE = "one"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Outer:
    class Inner(enum.Enum):
        IT = 1


class Clip(BaseModel):
    path: Path
    frames: int = 0
    tags: frozenset[str] = frozenset()
    alias: str = Field(default="", alias="other", exclude=True)


class Open(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)

    clip: Clip | None = None

    if TYPE_CHECKING:

        def __init__(self, *, clip: Clip | None = None, **extra: object) -> None: ...


class Numbers(RootModel[list[int]]):
    pass


class Picky(BaseModel):
    secret: str = Field(max_length=8)


SAMPLES: list[Any] = [
    None, True, 0, -(2**63), 2**63, 2**64 - 1, 2**64, -(2**63) - 1, 3**2000,
    1.5, float("inf"), -0.0, "", "grün \0 😀", b"", b"\0\xff", [], {}, (), set(), frozenset(),
    datetime(2026, 11, 20, 12, 30, 1, 999999, UTC),
    datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=45, seconds=1))),
    datetime(9999, 12, 31, 23, 59, 59, fold=1),  # noqa: DTZ001 - naive ones are kept too
    date.min, date.max, time.max, datetime(2026, 1, 1, 3, tzinfo=UTC).timetz(),
    timedelta.min, timedelta.max, timedelta(microseconds=-1), UUID(int=0), UUID(int=2**128 - 1),
    Decimal("1.10"), Decimal("-0E-7"), Decimal("Infinity"), Path("a/b"), Path("/"),
    PurePosixPath("x"), PureWindowsPath("C:\\x"), Colour.RED, Colour.GREEN, Level.LOW, Word.ONE,
    Rights.READ | Rights.WRITE, Rights(0), Outer.Inner.IT, Clip(path=Path("a"), other="x"),
    Open(clip=Clip(path=Path("b"), tags=frozenset("ab")), more=[1]), Numbers([3, 1]),
    [{"one": Word.ONE}, {"one": 1}],
    {1: "a", "1": "b", b"1": "c"}, {-1: None, 2**70: {}}, {b"k": 1, "k": 2},
    [(1, [2, (3,)]), {(1, "a"), (1, "b")}, {frozenset({1}), frozenset()}], ({"a": ({},)},),
    list(range(64)), list(range(1000, 0, -1)), [*range(100), None], {2**63, 1},
    set(range(-500, 500)), frozenset(range(0, 10**12, 10**9)), [5] * 100, tuple(range(100)),
    [True] * 100, {"done": list(range(300)), "files": [{"a": list(range(70))}]},
    [UUID(int=n) for n in range(80)], {n: n + 1 for n in range(0, 400, 2)},
    [2**64 - 1, *range(64)], [-(2**63), *range(70), 2**63 - 1],
]  # fmt: skip

_UTF8 = st.text(st.characters(codec="utf-8"), max_size=20)
_ZONES = st.none() | st.integers(-86399, 86399).map(lambda s: timezone(timedelta(seconds=s)))
HASHABLE = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), _UTF8,
    st.binary(max_size=20),
    st.datetimes(timezones=_ZONES), st.dates(), st.times(), st.timedeltas(), st.uuids(),
    st.decimals(allow_nan=False), st.sampled_from([*Colour, *Level, *Word, Outer.Inner.IT]),
    _UTF8.map(PurePosixPath),
)  # fmt: skip
INTS = st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-300, 300), max_size=150)
_LEAVES = st.one_of(
    HASHABLE,
    INTS,
    INTS.map(sorted),
    INTS.map(set),
    st.builds(Clip, path=_UTF8.map(Path), frames=st.integers()),
)


def _around(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = _UTF8 | st.integers() | st.binary(max_size=5)
    return st.one_of(
        st.lists(inner, max_size=6),
        st.lists(inner, max_size=6).map(tuple),
        st.dictionaries(_UTF8, inner, max_size=6),
        st.dictionaries(keys, inner, max_size=6),
        st.sets(HASHABLE, max_size=6),
        st.frozensets(HASHABLE, max_size=6),
        st.builds(Open, clip=st.none(), extra=inner),
    )


STATES = st.recursive(_LEAVES, _around, max_leaves=25)


async def round_trip(state: object, place: Place = PLACE) -> object:
    segments = await split_state(state, version=7, place=place)
    again, version = await join_state([segment.blob for segment in segments], place=place)
    assert version == 7
    return again


def same(left: Any, right: Any) -> bool:
    """Equal, and of equal types all the way down, in the same order."""
    if type(left) is not type(right):
        return False
    if isinstance(left, BaseModel):
        left, right = _inside(left), _inside(right)
    if isinstance(left, dict):
        left, right = [*left.items()], [*right.items()]
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, set | frozenset):
        return sorted(map(_typed, left)) == sorted(map(_typed, right))
    if hasattr(left, "fold"):
        return repr(left) == repr(right)
    return bool(left == right) and (isinstance(left, int) or str(left) == str(right))


def _inside(model: BaseModel) -> list[Any]:
    return [dict(vars(model)), model.model_extra, model.model_fields_set]


def _typed(value: object) -> str:
    if isinstance(value, frozenset | tuple):
        return f"{type(value)} {sorted(map(_typed, value))}"
    return f"{type(value)} {value!r}"
