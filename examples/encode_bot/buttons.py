"""Buttons that work after a restart: all they need to know is in their `custom_id`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Self

import discord

from examples.encode_bot.answers import answering
from examples.encode_bot.pages import Page, read_page
from examples.encode_bot.requests import cancel

if TYPE_CHECKING:
    from examples.encode_bot.bot import EncodeBot

_Button = discord.ui.Button[discord.ui.View]


class CancelButton(
    discord.ui.DynamicItem[_Button], template=r"encode-bot:cancel:(?P<job_id>\d{1,19})"
):
    """Cancels the job of its message."""

    def __init__(self, job_id: int) -> None:
        super().__init__(
            discord.ui.Button(
                label="Cancel",
                style=discord.ButtonStyle.danger,
                custom_id=f"encode-bot:cancel:{job_id}",
            )
        )
        self._job_id = job_id

    @classmethod
    async def from_custom_id(
        cls,
        interaction: discord.Interaction[EncodeBot],  # type: ignore[override]
        item: discord.ui.Item[discord.ui.View],
        match: re.Match[str],
    ) -> Self:
        """The button that was pressed, whichever process made it."""
        del interaction, item
        return cls(int(match["job_id"]))

    async def callback(self, interaction: discord.Interaction[EncodeBot]) -> None:  # type: ignore[override]
        """Answer the user; the message itself follows the job."""
        async with answering(interaction):
            words = await cancel(interaction.client.db, interaction, self._job_id)
            await interaction.edit_original_response(content=words)


class PageButton(
    discord.ui.DynamicItem[_Button],
    template=r"encode-bot:page:(?P<user_id>\d{1,19}):(?P<after>newest|-?\d{1,19}:\d{1,19})",
):
    """Turns a list of jobs to the page behind a job, or to the newest one."""

    def __init__(self, user_id: int, after: tuple[int, int] | None) -> None:
        place = "newest" if after is None else f"{after[0]}:{after[1]}"
        super().__init__(
            discord.ui.Button(
                label="Newest" if after is None else "Older",
                custom_id=f"encode-bot:page:{user_id}:{place}",
            )
        )
        self._user_id = user_id
        self._after = after

    @classmethod
    async def from_custom_id(
        cls,
        interaction: discord.Interaction[EncodeBot],  # type: ignore[override]
        item: discord.ui.Item[discord.ui.View],
        match: re.Match[str],
    ) -> Self:
        """The button that was pressed, whichever process made it."""
        del interaction, item
        requested_at, _, job_id = match["after"].partition(":")
        return cls(int(match["user_id"]), (int(requested_at), int(job_id)) if job_id else None)

    async def callback(self, interaction: discord.Interaction[EncodeBot]) -> None:  # type: ignore[override]
        """Show the page in the same message."""
        async with answering(interaction, update=True):
            page = await read_page(interaction.client.db, self._user_id, self._after)
            await interaction.edit_original_response(content=page.text, view=page_view(page))


def cancel_view(job_id: int) -> discord.ui.View:
    """The button below the message of an active job."""
    view = discord.ui.View(timeout=None)
    view.add_item(CancelButton(job_id))
    return view


def page_view(page: Page) -> discord.ui.View:
    """The buttons below a page: none where there is nothing to turn."""
    view = discord.ui.View(timeout=None)
    if page.after is not None:
        view.add_item(PageButton(page.user_id, None))
    if page.older is not None:
        view.add_item(PageButton(page.user_id, page.older))
    return view
