"""`python -m examples.encode_bot`."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path

from examples.encode_bot.settings import Settings, SettingsError, read_settings
from pandora_db import InvalidInput, JobDb, PandoraDbError

try:
    import aiohttp
    import discord

    from examples.encode_bot.bot import EncodeBot
except ImportError as error:
    raise SystemExit(f"{error.name} is missing: pip install -e '.[bot]'") from None

log = logging.getLogger("encode_bot")

discord.VoiceClient.warn_nacl = discord.VoiceClient.warn_dave = False  # it has no use for voice


async def run(settings: Settings) -> None:
    """Work until SIGINT or SIGTERM, then close gracefully; a second signal ends it at once.

    Raises:
        discord.LoginFailure: the token is not one.
        InvalidInput: the database's URL is not one.
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
        async with JobDb.open(settings.db_url, sweep=None):
            pass  # what is wrong with it is told before Discord is asked
        async with EncodeBot(settings) as bot:
            await bot.start(settings.token)
    except asyncio.CancelledError:
        if not asked:
            raise
        log.info("closed")


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"ENCODE_BOT_DATA cannot be made: {error}") from None


def main() -> int:
    """Run the bot; returns the exit code."""
    try:
        settings = read_settings()
        _make_folder(settings.data)
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    discord.utils.setup_logging()
    try:
        asyncio.run(run(settings))
    except InvalidInput as error:
        print(f"error: PANDORA_DB_URL: {error}", file=sys.stderr)
        return 2
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
