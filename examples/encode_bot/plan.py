"""How a video is encoded: in parts, each of which is finished or not there at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from examples.encode_bot.failure import HopelessError
from examples.encode_queue.failure import StepError
from examples.encode_queue.ffmpeg import Media, probe
from examples.encode_queue.presets import CONCAT, choose_encoder
from pandora_db import Preset

_STEREO = "aresample=48000,aformat=channel_layouts=stereo"


@dataclass(frozen=True, slots=True)
class Part:
    """One run of ffmpeg: a file of the plan.

    Attributes:
        name: of the file in the folder of the job.
        arguments: all but the file itself.
        seconds: of video or sound, as far as it is known.
        video: whether it is a piece of the picture; the order is that of the video.
    """

    name: str
    arguments: tuple[str, ...]
    seconds: float
    video: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """What an attempt decides and the next ones keep to, as the parts have to fit together."""

    preset: Preset
    encoder: tuple[str, ...]
    segment: float
    source: Media
    intro: Media | None

    @classmethod
    async def make(cls, preset: Preset, source: Path, intro: Path, segment: float) -> Self:
        """Look at the files and decide.

        Raises:
            HopelessError: there is no video in them.
        """
        encoder = await choose_encoder(preset)
        try:
            lead = await probe(intro) if preset in CONCAT else None
            return cls(preset, tuple(encoder), segment, await probe(source), lead)
        except StepError as error:
            raise HopelessError(str(error)) from error

    def to_state(self) -> dict[str, Any]:
        """As it is kept in a checkpoint."""
        return {
            "preset": self.preset.value,
            "encoder": self.encoder,
            "segment": self.segment,
            "source": _facts(self.source),
            "intro": self.intro and _facts(self.intro),
        }

    @classmethod
    def of(cls, state: dict[str, Any]) -> Self:
        """As it was kept."""
        intro = state["intro"]
        return cls(
            Preset(state["preset"]),
            state["encoder"],
            state["segment"],
            Media(*state["source"]),
            Media(*intro) if intro else None,
        )

    @property
    def has_sound(self) -> bool:
        """Whether there is a part with sound."""
        return self.source.has_audio or self.intro is not None

    def parts(self, source: Path, intro: Path) -> list[Part]:
        """Every part, in the order in which they are made."""
        found: list[Part] = []
        if self.intro is not None:
            found.append(self._video("intro.mp4", ["-i", str(intro)], self.intro.seconds))
        whole, step = self.source.seconds, self.segment
        # The last one takes the rest: a container is often a little longer than its pictures. One
        # that does not say how long it is makes one part.
        count = max(1, round(whole / step))
        for number in range(count):
            start, last = number * step, number == count - 1
            cut = ["-ss", f"{start:g}"] if number else []
            cut += [] if last else ["-t", f"{step:g}"]
            seconds = whole - start if last else step
            name = f"part{number:05}.mp4"
            found.append(self._video(name, [*cut, "-i", str(source)], seconds))
        if self.has_sound:
            found.append(self._sound(source, intro))
        return found

    def _video(self, name: str, cut: list[str], seconds: float) -> Part:
        picture = "scale=trunc(iw/2)*2:trunc(ih/2)*2"
        if self.intro is not None:
            size = f"{self.source.width & ~1}:{self.source.height & ~1}"
            picture = f"scale={size},setsar=1,fps=30"
        coding = ["-c:v", *self.encoder, "-pix_fmt", "yuv420p", "-an", "-f", "mp4"]
        return Part(name, (*cut, "-map", "0:v:0", "-vf", picture, *coding), seconds)

    def _sound(self, source: Path, intro: Path) -> Part:
        coding = ("-vn", "-c:a", "aac", "-b:a", "128k", "-f", "mp4")
        seconds = self.source.seconds
        if self.intro is None:
            return Part(
                "sound.m4a", ("-i", str(source), "-map", "0:a:0", *coding), seconds, video=False
            )
        inputs = ("-i", str(intro), "-i", str(source))
        heard = [_heard(0, self.intro), _heard(1, self.source)]
        graph = f"{heard[0]}[a0];{heard[1]}[a1];[a0][a1]concat=n=2:v=0:a=1[a]"
        arguments = (*inputs, "-filter_complex", graph, "-map", "[a]", *coding)
        return Part("sound.m4a", arguments, self.intro.seconds + seconds, video=False)


def _heard(number: int, media: Media) -> str:
    # concat joins streams pairwise: a video without sound is silent for its length.
    silence = f"anullsrc=r=48000:cl=stereo:d={media.seconds},"
    return f"{f'[{number}:a:0]' if media.has_audio else silence}{_STEREO}"


def _facts(media: Media) -> tuple[float, int, int, bool]:
    return media.seconds, media.width, media.height, media.has_audio
