"""The encode bot as a process of its own, an ffmpeg that waits, and what users see."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.discord.encode_bot.clips import FFMPEG
from tests.discord.stand_in import GUILD_ID, TOKEN, USER_ID, StandIn
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from types import TracebackType

    from pandora_db import JobDb
    from tests.discord.encode_bot.media_site import MediaSite
    from tests.discord.stand_in import Used
    from tests.discord.stand_in.world import Message

ROOT = Path(__file__).parents[3]

# Stands for ffmpeg: says which part it makes, and waits as long as a test holds that part.
_FFMPEG = """#!/bin/sh
part=0
work=no
before=
for argument in "$@"; do
    case "$before" in -ss) part=$argument ;; esac
    case "$argument" in
        -progress) work=yes ;;
        -vn) part=sound ;;
        concat) part=join ;;
        lavfi) part=made ;;
    esac
    before=$argument
done
[ $work = yes ] || exec "{ffmpeg}" "$@"
echo "begin $part" >> "{log}"
while [ -e "{folder}/hold-$part" ]; do sleep 0.02; done
"{ffmpeg}" "$@"
code=$?
echo "end $part" >> "{log}"
exit $code
"""


class Ffmpeg:
    """A program in the place of ffmpeg. A part is named by the second at which it begins."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._log = folder / "log"
        self._log.touch()
        self.program = folder / "ffmpeg"
        text = _FFMPEG.format(ffmpeg=FFMPEG, log=self._log, folder=folder)
        self.program.write_text(text, encoding="utf-8")
        self.program.chmod(0o755)

    def hold(self, part: str) -> None:
        """Let whoever makes this part wait."""
        (self._folder / f"hold-{part}").touch()

    def release(self) -> None:
        """Let all go on."""
        for hold in self._folder.glob("hold-*"):
            hold.unlink()

    @property
    def begun(self) -> Counter[str]:
        """How often each part was begun."""
        lines = self._log.read_text(encoding="utf-8").splitlines()
        begun = Counter(line.removeprefix("begin ") for line in lines if line.startswith("begin "))
        del begun["made"]  # the test card
        return begun


@dataclass(slots=True)
class Scene:
    """All that a bot needs around it.

    Attributes:
        clip: a video, which the site offers at `link`.
    """

    db: JobDb
    db_url: str
    discord: StandIn
    site: MediaSite
    ffmpeg: Ffmpeg
    folder: Path
    clip: Path

    @property
    def link(self) -> str:
        """The clip, as `talk.mkv` on the site."""
        return f"{self.site.base}/talk.mkv"

    def bot(self, **settings: str) -> Bot:
        """A bot, not started yet; `QUEUE="4"` sets ENCODE_BOT_QUEUE."""
        return Bot(self, settings)

    async def encode(self, *, user_id: int = USER_ID, **options: object) -> Message:
        """Somebody uses /encode; the answer."""
        used = await self.discord.slash("encode", options or {"link": self.link}, user_id=user_id)
        return used.message()


class Bot:
    """`python -m examples.encode_bot` at a stand-in; `async with` kills it at the end.

    Attributes:
        process: the one that runs now, or ran last.
        data: the bot's folder.
        environ: what it is told.
    """

    process: subprocess.Popen[bytes]

    def __init__(self, scene: Scene, settings: dict[str, str]) -> None:
        self._discord, self._ffmpeg = scene.discord, scene.ffmpeg
        self._errors = scene.folder / "bot.log"
        self.data = scene.folder / "data"
        self.environ = {
            **{key: value for key, value in os.environ.items() if "ENCODE_BOT_" not in key},
            "DISCORD_TOKEN": TOKEN,
            "PANDORA_DB_URL": scene.db_url,
            "IMAGEIO_FFMPEG_EXE": str(scene.ffmpeg.program),
            "ENCODE_BOT_GUILD": str(GUILD_ID),
            "ENCODE_BOT_DATA": str(self.data),
            "ENCODE_BOT_PRIVATE_LINKS": "yes",
            "ENCODE_BOT_SEGMENT": "1",
            "ENCODE_BOT_LEASE": "2",
            **{f"ENCODE_BOT_{name}": value for name, value in settings.items()},
        }

    async def start(self) -> None:
        """Start it, and wait until it hears what users do."""
        await wait_until(lambda: not self._discord.connected, timeout=20)
        self._begin()
        await self._discord.wait_connected(40)

    async def run_to_its_end(self) -> int:
        """Start it, and wait until it ends by itself; the exit code."""
        self._begin()
        return await self._ended()

    def _begin(self) -> None:
        program = [sys.executable, "-m", "tests.discord.stand_in.library", self._discord.url]
        with self._errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [*program, "examples.encode_bot"],
                cwd=ROOT, env=self.environ, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
            )  # fmt: skip

    async def _ended(self) -> int:
        await wait_until(lambda: self.process.poll() is not None, timeout=40)
        return self.process.wait()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(10)

    async def end(self) -> int:
        """SIGTERM; the exit code."""
        self.process.terminate()
        return await self._ended()

    @property
    def log(self) -> str:
        """What it said."""
        return self._errors.read_text(encoding="utf-8")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        self._ffmpeg.release()  # what it left behind ends too
        print(self.log)  # shown when the test fails


def buttons(message: Message) -> list[str]:
    return [str(part["custom_id"]) for part in message.buttons()]


async def says(message: Message, words: str) -> None:
    """Wait until the message shows these words."""
    await wait_until(lambda: words in message.content, timeout=40)


async def answers(used: Used, *words: str) -> None:
    """Wait until the answer has some of these words."""
    await wait_until(lambda: any(each in used.text() for each in words), timeout=20)
