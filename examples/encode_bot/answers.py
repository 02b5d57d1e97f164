"""Answering users: at once that they were heard, then what became of it, whatever that is."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import discord

from examples.encode_bot.failure import RefusedError
from pandora_db import PandoraDbError

log = logging.getLogger("encode_bot")


@asynccontextmanager
async def answering(
    interaction: discord.Interaction, *, public: bool = False, update: bool = False
) -> AsyncIterator[None]:
    """Acknowledge an interaction, and tell the user if the block fails.

    Discord waits three seconds for the first answer; a database that is busy may take longer. So
    nothing is asked of it before.

    Args:
        interaction: what the user did.
        public: whether others see the answer.
        update: the answer takes the place of the message whose button was pressed.
    """
    if update:
        await interaction.response.defer()
    else:
        await interaction.response.defer(ephemeral=not public, thinking=True)
    try:
        yield
    except RefusedError as refused:
        words = f"Sorry, {refused}."
    except PandoraDbError:
        log.exception("the database refused")
        words = "Sorry, the queue cannot be reached; try again in a moment."
    except Exception:
        log.exception("an answer failed")
        words = "Sorry, that did not work."
    else:
        return
    if update:
        await interaction.followup.send(words, ephemeral=True)
    else:
        await interaction.edit_original_response(content=words, view=None)
