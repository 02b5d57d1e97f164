"""`python -m examples.encode_queue`."""

from __future__ import annotations

import asyncio
import sys


def main() -> int:
    """Run the queue; returns the exit code."""
    try:
        return _run()
    except KeyboardInterrupt:  # while the modules were still being loaded
        return 130


def _run() -> int:
    from examples.encode_queue.failure import StepError  # noqa: PLC0415 - see main
    from examples.encode_queue.options import parse_options  # noqa: PLC0415
    from pandora_db import PandoraDbError  # noqa: PLC0415

    try:
        # Last, so that --help answers where ffmpeg, aiohttp and rich are not installed.
        from examples.encode_queue.app import run  # noqa: PLC0415
    except ImportError as error:
        parse_options()
        print(f"{error.name} is missing: pip install -e '.[demo]'", file=sys.stderr)
        return 2
    options, code = parse_options(), 1
    try:
        code = asyncio.run(run(options))
    except* KeyboardInterrupt:
        code = 130
    except* (PandoraDbError, StepError, OSError) as errors:
        # The run is a task group: what ends one of its tasks arrives here in a group.
        print(f"error: {_first(errors)}", file=sys.stderr)
    return code


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


if __name__ == "__main__":
    sys.exit(main())
