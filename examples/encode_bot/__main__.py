"""`python -m examples.encode_bot`."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from examples.encode_bot.settings import Settings, SettingsError, read_settings
from pandora_db import PandoraDbError

try:
    import aiohttp
    import discord

    from examples.encode_bot.bot import EncodeBot
except ImportError as error:
    raise SystemExit(f"{error.name} is missing: pip install -e '.[bot]'") from None

log = logging.getLogger("encode_bot")


async def run(settings: Settings) -> None:
    """Work until SIGINT or SIGTERM, then close gracefully; a second signal ends it at once.

    Raises:
        discord.LoginFailure: the token is not one.
        PandoraDbError: the database refuses.
    """
    loop, main = asyncio.get_running_loop(), asyncio.current_task()
    assert main is not None
    asked = False

    def stop() -> None:
        nonlocal asked
        asked = True
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        main.cancel()

    if sys.platform != "win32":  # no signal handlers in its event loop: Ctrl-C ends it at once
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
    try:
        async with EncodeBot(settings) as bot:
            await bot.start(settings.token)
    except asyncio.CancelledError:
        if not asked:
            raise
        log.info("closed")


def main() -> int:
    """Run the bot; returns the exit code."""
    try:
        settings = read_settings()
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    discord.utils.setup_logging()
    try:
        asyncio.run(run(settings))
    except discord.LoginFailure as error:  # no better the next time, as a setting
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (PandoraDbError, discord.DiscordException, aiohttp.ClientError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
