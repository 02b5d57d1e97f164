"""The command line."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for.

    `clips` is None when it was not given: made-up requests are then queued only if no job was left
    by an earlier run and no source of the user's own was named. `kill` is None likewise: then an
    encoder is killed when made-up requests are queued.
    """

    sources: tuple[str, ...]
    db: str
    folder: Path
    workers: int
    clips: int | None
    limit: int
    seed: int
    kill: bool | None
    quick: bool
    json: bool


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def parse_options(arguments: list[str] | None = None) -> Options:
    """Read `arguments` (the process's own when None); exits with a message on a mistake."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.encode_queue",
        description="Queue videos, encode them with several workers, print the permanent log.",
    )
    parser.add_argument(
        "sources", nargs="*", metavar="FILE_OR_URL", help="your own videos (default: made-up clips)"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("pandora-demo"),
        help="where clips, jobs' files and uploads are kept (default: %(default)s)",
    )
    parser.add_argument(
        "--db",
        help="a file, sqlite:///…, postgresql://… or a libpq string (default: FOLDER/pandora.db)",
    )
    parser.add_argument(
        "--workers",
        type=_positive,
        default=2,
        help="encoders, and as many downloads and uploads at once (default: %(default)s)",
    )
    parser.add_argument("--clips", type=int, help="how many made-up requests to queue (default: 8)")
    parser.add_argument(
        "--limit",
        type=_positive,
        default=6,
        help="the bot turns requests away while this many jobs are active (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=7,
        help="choice of users, clips and presets (default: %(default)s)",
    )
    parser.add_argument(
        "--kill",
        action=argparse.BooleanOptionalAction,
        help="kill an encoder in the middle of an encode (default: when made-up clips are queued)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny clips, no brakes: a few seconds in all"
    )
    parser.add_argument(
        "--json", action="store_true", help="print the log as JSON; all else goes to stderr"
    )
    given = parser.parse_args(arguments)
    for source in given.sources:
        if "://" not in source and not Path(source).is_file():
            parser.error(f"{source}: no such file")
    return Options(
        sources=tuple(given.sources),
        db=given.db or str(given.folder / "pandora.db"),
        folder=given.folder,
        workers=given.workers,
        clips=given.clips,
        limit=given.limit,
        seed=given.seed,
        kill=given.kill,
        quick=given.quick,
        json=given.json,
    )
