"""Points the real discord.py at a stand-in: in this process, or in a bot that is started by name.

    python -m tests.discord.stand_in.library URL MODULE [ARGUMENT …]

runs `python -m MODULE ARGUMENT …` with discord.py talking to the stand-in at URL (`StandIn.url`).
"""

from __future__ import annotations

import runpy
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import discord
import yarl
from discord.gateway import DiscordWebSocket
from discord.http import Route

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def pointed_at(url: str) -> Iterator[None]:
    """Let discord.py in this process talk to the stand-in at `url`."""
    before = Route.BASE, DiscordWebSocket.DEFAULT_GATEWAY
    base = yarl.URL(url)
    Route.BASE = url
    DiscordWebSocket.DEFAULT_GATEWAY = base.with_scheme("ws").with_path("/gateway/")
    try:
        yield
    finally:
        Route.BASE, DiscordWebSocket.DEFAULT_GATEWAY = before


def main() -> None:
    url, module, *arguments = sys.argv[1:]
    sys.argv = [module, *arguments]
    # A suite that runs in the background has Ctrl-C ignored, and so have its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pointed_at(url):
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    assert discord.__version__
    main()
