"""Single values that MessagePack does not know ↔ its extension types.

A type has a code of its own for good: a stored code never changes its meaning.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any, Final
from uuid import UUID, SafeUUID

from msgpack import packb, unpackb

from pandora_db.codecs.checkpoint.classes import class_name, find_class
from pandora_db.models.limits import MAX_CHECKPOINT_INT, MAX_CHECKPOINT_KEY

INT: Final = 1
DATETIME: Final = 2
DATE: Final = 3
TIME: Final = 4
TIMEDELTA: Final = 5
UUID_: Final = 6
DECIMAL: Final = 7
PATH: Final = 8
ENUM: Final = 9
# Containers, see `pack`.
TUPLE: Final = 16
SET: Final = 17
FROZENSET: Final = 18
PAIRS: Final = 19
MODEL: Final = 20
INT_LIST: Final = 21
INT_SET: Final = 22
INT_FROZENSET: Final = 23
UUID_LIST: Final = 24
TABLE: Final = 25
CUT: Final = 26
# What a cut stands for, see `split`.
CUT_LIST: Final = 1
CUT_TUPLE: Final = 2
CUT_SET: Final = 3
CUT_FROZENSET: Final = 4
CUT_DICT: Final = 5
CUT_PAIRS: Final = 6
CUT_MODEL: Final = 7
CUT_TEXT: Final = 8
CUT_BYTES: Final = 9

_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - local times are counted from it, whatever the zone
_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE = struct.Struct(">qB")
_AWARE = struct.Struct(">qBq")
_DATE = struct.Struct(">I")
_DELTA = struct.Struct(">iII")
_MAX_DECIMAL = 4_096
_UUID = struct.Struct(">QQ")
# A UUID is made as its own constructor ends; what that checks before takes twice as long.
_new = object.__new__
_set_int: Callable[[UUID, int], None] = vars(UUID)["int"].__set__
_set_safe: Callable[[UUID, SafeUUID], None] = vars(UUID)["is_safe"].__set__
_DAY = timedelta(days=1)
_WIRE_INT = (-(2**63), 2**64 - 1)
_PATHS: dict[int, type[PurePath]] = {0: Path, 1: PurePosixPath, 2: PureWindowsPath}
_PATH_KINDS: dict[type, int] = {type(Path()): 0, PurePosixPath: 1, PureWindowsPath: 2}


class Odd(Exception):
    """A value that a checkpoint cannot hold; `what` says what it is and what is expected."""

    def __init__(self, what: str = "") -> None:
        super().__init__(what)
        self.what = what


def _encode_int(value: int) -> bytes:
    bits = value.bit_length()
    if bits >= MAX_CHECKPOINT_INT:
        raise Odd(f"an int of {bits} bits; expected fewer than {MAX_CHECKPOINT_INT}")
    return value.to_bytes(bits // 8 + 1, "big", signed=True)


def _decode_int(data: bytes) -> int:
    value = int.from_bytes(data, "big", signed=True)
    if _WIRE_INT[0] <= value <= _WIRE_INT[1] or value.bit_length() >= MAX_CHECKPOINT_INT:
        raise ValueError("not a long int")
    return value


def _offset(value: datetime | time) -> int | None:
    try:
        offset = value.utcoffset()
    except Exception:  # noqa: BLE001 - a zone is anybody's code
        offset = None
    if offset is None:
        if value.tzinfo is not None:
            raise Odd("a time whose zone has no fixed offset; expected one that has, or no zone")
        return None
    return offset // _MICROSECOND


def _encode_datetime(value: datetime) -> bytes:
    offset = _offset(value)
    if offset is None:
        return _NAIVE.pack((value - _EPOCH) // _MICROSECOND, value.fold)
    return _AWARE.pack((value - _EPOCH_UTC) // _MICROSECOND + offset, value.fold, offset)


def _decode_datetime(data: bytes) -> datetime:
    if len(data) == _AWARE.size:
        count, fold, offset = _AWARE.unpack(data)
        if not fold and not offset:
            return _EPOCH_UTC + timedelta(0, 0, count)
    local, fold, zone = _unpack_time(data)
    return (_EPOCH + local).replace(fold=fold, tzinfo=zone)


def _encode_time(value: time) -> bytes:
    offset = _offset(value)
    count = (datetime.combine(_EPOCH, value.replace(tzinfo=None)) - _EPOCH) // _MICROSECOND
    if offset is None:
        return _NAIVE.pack(count, value.fold)
    return _AWARE.pack(count, value.fold, offset)


def _decode_time(data: bytes) -> time:
    local, fold, zone = _unpack_time(data)
    if not timedelta() <= local < _DAY:
        raise ValueError("no time of a day")
    return (_EPOCH + local).time().replace(fold=fold, tzinfo=zone)


def _unpack_time(data: bytes) -> tuple[timedelta, int, timezone | None]:
    if len(data) == _NAIVE.size:
        count, fold = _NAIVE.unpack(data)
        return timedelta(microseconds=count), fold, None
    count, fold, offset = _AWARE.unpack(data)
    zone = timezone(timedelta(microseconds=offset)) if offset else UTC
    return timedelta(microseconds=count), fold, zone


def _decode_date(data: bytes) -> date:
    return date.fromordinal(_DATE.unpack(data)[0])


def _decode_timedelta(data: bytes) -> timedelta:
    value = timedelta(*_DELTA.unpack(data))
    if _encode_timedelta(value) != data:
        raise ValueError("a duration out of form")
    return value


def _encode_timedelta(value: timedelta) -> bytes:
    return _DELTA.pack(value.days, value.seconds, value.microseconds)


def _encode_decimal(value: Decimal) -> bytes:
    text = str(value)
    if len(text) > _MAX_DECIMAL:
        raise Odd(f"a Decimal of {len(text)} characters; expected at most {_MAX_DECIMAL}")
    return text.encode()


def _decode_decimal(data: bytes) -> Decimal:
    text = data.decode("ascii")
    value = Decimal(text)
    if len(text) > _MAX_DECIMAL or str(value) != text:
        raise ValueError("a number out of form")
    return value


def decode_uuids(data: bytes) -> list[UUID]:
    """The UUIDs of 16 bytes each; raises `struct.error` when there is a rest."""
    made: list[UUID] = []
    for high, low in _UUID.iter_unpack(data):
        value = _new(UUID)
        _set_int(value, high << 64 | low)
        _set_safe(value, SafeUUID.unknown)
        made.append(value)
    return made


def _decode_uuid(data: bytes) -> UUID:
    (value,) = decode_uuids(data)
    return value


def _encode_path(value: PurePath) -> bytes:
    text = str(value)
    if len(text) > MAX_CHECKPOINT_KEY:
        raise Odd(f"a path of {len(text)} characters; expected at most {MAX_CHECKPOINT_KEY}")
    try:
        return bytes((_PATH_KINDS[type(value)],)) + text.encode()
    except UnicodeEncodeError as error:
        what = f"a path with a lone surrogate at position {error.start}; expected valid text"
    raise Odd(what)


def _decode_path(data: bytes) -> PurePath:
    return _PATHS[data[0]](data[1:].decode())


def encode_enum(value: Enum) -> bytes:
    """The payload of an enum's member, whatever its class."""
    kind = type(value)
    name = class_name(kind)
    if name is None:
        raise Odd(
            f"a member of {kind.__qualname__}, a class that cannot be found by its name; "
            "expected one that stands at the top of its module or in such a class"
        )
    # Members of a Flag may be combinations, which have no name of their own.
    return packb([name, int(value.value) if isinstance(value, Flag) else value.name])


def _decode_enum(data: bytes) -> Enum:
    name, member = unpackb(data)
    kind = find_class(name, Enum)
    if issubclass(kind, Flag):
        if type(member) is not int:
            raise ValueError("no flags")
        return kind(member)
    return kind.__members__[member]


ENCODERS: dict[type, tuple[int, Callable[[Any], bytes]]] = {
    int: (INT, _encode_int),
    datetime: (DATETIME, _encode_datetime),
    date: (DATE, lambda value: _DATE.pack(value.toordinal())),
    time: (TIME, _encode_time),
    timedelta: (TIMEDELTA, _encode_timedelta),
    UUID: (UUID_, lambda value: value.bytes),
    Decimal: (DECIMAL, _encode_decimal),
    **dict.fromkeys(_PATH_KINDS, (PATH, _encode_path)),
}
"""By the exact type; enums are known by their base."""

DECODERS: dict[int, Callable[[bytes], object]] = {
    INT: _decode_int,
    DATETIME: _decode_datetime,
    DATE: _decode_date,
    TIME: _decode_time,
    TIMEDELTA: _decode_timedelta,
    UUID_: _decode_uuid,
    DECIMAL: _decode_decimal,
    PATH: _decode_path,
    ENUM: _decode_enum,
}
"""Each raises anything at all for a payload that its encoder does not make."""

LEAST_SIZES: dict[type, int] = {
    UUID: 18, datetime: 11, time: 11, timedelta: 14, date: 6, Decimal: 4, type(Path()): 5,
}  # fmt: skip
"""What a value takes at least when it is packed; others take 4."""
