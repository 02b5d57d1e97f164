"""A film in segments: where it is cut, how each is encoded, and how they are joined.

The picture is encoded segment by segment. The sound is encoded in one go when they are joined: it
takes no time worth keeping, and has no seams then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import TypeAlias

from examples.encode_queue.clips import write_subtitles
from examples.encode_queue.facts import Workspace, preset_of, publish
from examples.encode_queue.ffmpeg import Media, probe, run_ffmpeg
from examples.encode_queue.presets import CONCAT
from pandora_db import JobRow, Preset

# The index of the part, where it begins there in seconds, and how long it is; 0 is to the end.
Cut: TypeAlias = tuple[int, float, float]
_ABOUT = 8  # segments, of a short part
_LEAST, _MOST = 0.5, 30.0  # seconds of a segment


@dataclass(frozen=True, slots=True)
class Film:
    """What is to be encoded: an intro, if the preset wants one, and the downloaded source."""

    parts: tuple[Path, ...]
    media: tuple[Media, ...]
    subtitles: Path | None

    @classmethod
    async def open(cls, job: JobRow, intro: Path) -> Film:
        """Look at the files of `job`.

        Raises:
            StepError: there is no video in one of them.
        """
        space, preset = Workspace.of(job), preset_of(job)
        parts = (intro, space.source) if preset in CONCAT else (space.source,)
        media = tuple([await probe(part) for part in parts])
        if preset is not Preset.CONCAT_SOME_SUBS:
            return cls(parts, media, None)
        subtitles = space.folder / "subtitles.srt"
        lines = [f"for {job.author}", f"job {job.job_id}", "encoded with pandora_db"]
        each = min(2.0, media[1].seconds / len(lines))
        write_subtitles(subtitles, lines, start=media[0].seconds, each=each)
        return cls(parts, media, subtitles)

    async def encode(self, cut: Cut, codec: Sequence[str], target: Path) -> None:
        """Encode one segment to `target`, which is there only when it is complete."""
        part, begin, seconds = cut
        span = ["-ss", f"{begin:g}", *(["-t", f"{seconds:g}"] if seconds else [])]
        picture = "scale=trunc(iw/2)*2:trunc(ih/2)*2"
        if len(self.parts) > 1:
            size = self.media[-1]
            picture = f"scale={size.width & ~1}:{size.height & ~1},setsar=1,fps=30"
        await _make(
            target,
            *(*span, "-i", str(self.parts[part]), "-map", "0:v:0", "-vf", picture),
            *("-c:v", *codec, "-pix_fmt", "yuv420p", "-video_track_timescale", "90000"),
        )

    async def join(self, segments: Sequence[tuple[Path, float]], target: Path) -> None:
        """Make one file of the segments (with their seconds), the sound and the subtitles."""
        listing = target.with_name("segments.txt")
        # The seconds keep rounding from adding up over the segments.
        listing.write_text(
            "".join(
                f"file '{path.name}'\n" + (f"duration {seconds:g}\n" if seconds else "")
                for path, seconds in segments
            ),
            encoding="utf-8",
        )
        inputs = ["-f", "concat", "-i", str(listing)]
        for part in self.parts:
            inputs += ["-i", str(part)]
        sound = ["-map", "1:a:0?"]
        if len(self.parts) > 1:
            sound = ["-filter_complex", self._sounds(), "-map", "[sound]"]
        words: list[str] = []
        if self.subtitles is not None:
            inputs += ["-i", str(self.subtitles)]
            words = ["-map", f"{len(self.parts) + 1}:s", "-c:s", "mov_text"]
        await _make(
            target,
            *(*inputs, "-map", "0:v", *sound, *words, "-c:v", "copy"),
            *("-c:a", "aac", "-b:a", "128k", "-movflags", "+faststart"),
        )

    def _sounds(self) -> str:
        """The filter that puts the sounds one behind the other; a mute part is silence."""
        form = "aresample=48000,aformat=channel_layouts=stereo"
        chains = [
            f"[{number}:a]{form},apad,atrim=end={media.seconds:g}[a{number}];"
            if media.has_audio
            else f"anullsrc=r=48000:cl=stereo:d={media.seconds:g}[a{number}];"
            for number, media in enumerate(self.media, 1)
        ]
        names = "".join(f"[a{number}]" for number in range(1, len(self.media) + 1))
        return f"{''.join(chains)}{names}concat=n={len(self.media)}:v=0:a=1[sound]"


def plan(film: Film) -> list[Cut]:
    """Where `film` is cut. The last segment of a part goes on to its end, wherever that is."""
    cuts: list[Cut] = []
    length = min(max(round(film.media[-1].seconds / _ABOUT * 2) / 2, _LEAST), _MOST)
    for part, media in enumerate(film.media):
        last = max(1, round(media.seconds / length)) - 1
        cuts += [(part, index * length, length) for index in range(last)]
        cuts.append((part, last * length, 0.0))
    return cuts


async def _make(target: Path, *arguments: str) -> None:
    # The part has no fixed name: the ffmpeg of a worker that was killed may still write to its own.
    part = target.with_name(f"{target.stem}-{token_hex(4)}.part")
    try:
        await run_ffmpeg(*arguments, "-f", "mp4", str(part))
        await publish(part, target)
    finally:
        part.unlink(missing_ok=True)
