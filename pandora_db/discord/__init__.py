"""Discord messages that show jobs: discord.py, nextcord, py-cord and disnake alike.

    JobMessages ── render(job) ──▶ ProgressUpdater ──▶ one task for each channel ──▶ the library
      watches the log                keeps the newest       keeps to the edit limits

None of these libraries is imported; the objects of whichever one is used are handed in.
"""

from __future__ import annotations

from pandora_db.discord.follow import JobMessages
from pandora_db.discord.message import JobFields, MessageRef
from pandora_db.discord.text import progress_bar, render_job
from pandora_db.discord.updater import ProgressUpdater

__all__ = [
    "JobFields",
    "JobMessages",
    "MessageRef",
    "ProgressUpdater",
    "progress_bar",
    "render_job",
]
