"""Runnable examples: `python -m examples.quickstart` and so on."""

from __future__ import annotations

import sys


def url_argument(usage: str | None) -> str | None:
    """The URL on the command line, or None; `--help` prints `usage`, other options are refused."""
    words = sys.argv[1:]
    if "--help" in words or "-h" in words:
        print((usage or "").strip())
        sys.exit(0)
    wrong = words[1:] or [word for word in words if word.startswith("-")]
    if wrong:
        print(f"error: {wrong[0]} is not understood: give one URL, or none", file=sys.stderr)
        sys.exit(2)
    return words[0] if words else None
