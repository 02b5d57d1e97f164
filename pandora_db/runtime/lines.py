"""Lines of a stream, however long they are and whatever ends them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator

_CHUNK = 65_536
_LONGEST = 65_536
_END = re.compile(rb"\r\n|\n|\r")


async def read_lines(stream: asyncio.StreamReader) -> AsyncGenerator[str]:
    """The lines without their ends; ffmpeg ends its progress lines with a carriage return.

    One of more than 65,536 bytes comes in pieces, and empty ones are left out.
    """
    rest = b""
    while chunk := await stream.read(_CHUNK):
        *whole, rest = _END.split(rest + chunk)
        for line in whole:
            if line:
                yield line.decode(errors="replace")
        while len(rest) > _LONGEST:
            yield rest[:_LONGEST].decode(errors="replace")
            rest = rest[_LONGEST:]
    if rest:
        yield rest.decode(errors="replace")
