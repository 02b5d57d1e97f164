"""The download: goes on where an attempt before it was cut off."""

from __future__ import annotations

import re
from http import HTTPStatus
from io import FileIO
from pathlib import Path

import aiohttp

from examples.encode_bot.failure import HopelessError
from examples.encode_bot.network import PrivateAddressError
from examples.encode_bot.tools import Tools
from examples.encode_queue.facts import publish
from examples.encode_queue.failure import StepError
from pandora_db.runtime import JobContext, Progress, run_blocking

_CHUNK = 1 << 20
_LATER = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}


async def fetch(ctx: JobContext, tools: Tools) -> Path:
    """The job's source, downloaded unless it is there.

    Raises:
        HopelessError: there is nothing behind the link, or nothing that is wanted.
        StepError, aiohttp.ClientError, OSError: another attempt may do better.
    """
    source = ctx.data_dir / "source"
    if source.exists():
        return source
    part, mark = ctx.data_dir / "source.part", ctx.data_dir / "source.version"
    have = part.stat().st_size if part.exists() and mark.exists() else 0
    # Compressed on its way, a file has other positions.
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": mark.read_text(encoding="utf-8")}
    try:
        async with tools.http.get(ctx.job.link, headers=headers) as response:
            have = _begin(response, have, part, mark)
            await _receive(ctx, response, part, have, tools.settings.source_limit)
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
        raise HopelessError(f"{ctx.job.link} is no link") from error
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, PrivateAddressError):
            raise HopelessError(f"the link leads to a private address: {error.host}") from error
        raise
    if part.stat().st_size == 0:
        raise HopelessError("the file is empty")
    await publish(part, source)
    return source


def _begin(response: aiohttp.ClientResponse, have: int, part: Path, mark: Path) -> int:
    """Judge the answer; returns at which byte its body begins."""
    status = response.status
    if have and status == HTTPStatus.PARTIAL_CONTENT:
        found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if found and int(found[1]) == have:
            return have
    passing = status in _LATER or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    if have and status != HTTPStatus.OK and not passing:  # what is here is of no use: begin anew
        part.unlink()
    if status == HTTPStatus.OK:
        part.unlink(missing_ok=True)
        # What says that a later answer is about the same bytes. A weak ETag does not.
        version = response.headers.get("ETag", "")
        if not version or version.startswith("W/"):
            version = response.headers.get("Last-Modified", "")
        if version:
            mark.write_text(version, encoding="utf-8")
        else:
            mark.unlink(missing_ok=True)
        return 0
    words = f"{status} {response.reason or ''}".rstrip() + f" from {response.url.host}"
    if status in range(400, 500) and not passing and not have:
        raise HopelessError(words)
    raise StepError(words)


async def _receive(
    ctx: JobContext,
    response: aiohttp.ClientResponse,
    part: Path,
    have: int,
    limit: int,
) -> None:
    length = response.content_length
    total = None if length is None else have + length
    too_large = HopelessError(f"the file is larger than {limit / 1e6:g} MB")
    if total is not None and total > limit:
        raise too_large
    with FileIO(part, "ab") as target:
        async for chunk in response.content.iter_chunked(_CHUNK):
            await ctx.check_interrupt()
            have += len(chunk)
            if have > limit:
                raise too_large
            await run_blocking(_write, target, chunk)
            ctx.progress(Progress.bytes(have, total, f"downloading, {have / 1e6:.1f} MB"))


def _write(target: FileIO, chunk: bytes) -> None:
    left = memoryview(chunk)
    while left:
        left = left[target.write(left) :]
