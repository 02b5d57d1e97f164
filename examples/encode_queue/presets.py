"""What each preset means to ffmpeg."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from examples.encode_queue.failure import StepError
from examples.encode_queue.ffmpeg import Media, run_ffmpeg
from pandora_db import Preset

STANDARD = ("libx264", "-preset", "medium", "-crf", "23")
# In the order they are tried for Preset.GPU; the last one runs everywhere.
GPU_ENCODERS = (
    ("h264_nvenc", "-preset", "p4", "-cq", "23"),
    ("h264_videotoolbox", "-q:v", "60"),
    ("libx264", "-preset", "ultrafast", "-crf", "23"),
)
CONCAT = frozenset({Preset.CONCAT_DEFAULT, Preset.CONCAT_SOME_SUBS})


async def choose_encoder(preset: Preset, *, quick: bool = False) -> tuple[str, ...]:
    """The video encoder and its settings; for the GPU preset, the first that works here."""
    if preset is Preset.GPU:
        return await _gpu_encoder()
    if quick:
        return ("libx264", "-preset", "ultrafast", "-crf", "28")
    if preset is Preset.PSEUDO_LOSSLESS:
        return ("libx264", "-preset", "veryfast", "-crf", "12")
    return STANDARD


def encode_arguments(
    preset: Preset,
    encoder: Sequence[str],
    source: Path,
    media: Media,
    target: Path,
    *,
    intro: Path,
    subtitles: Path,
) -> list[str]:
    """The arguments with which ffmpeg turns `source` into `target`.

    The concat presets put `intro` in front of it; CONCAT_SOME_SUBS adds `subtitles` as a track.
    """
    output = ["-c:v", *encoder, "-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "128k"]
    output += ["-movflags", "+faststart", "-f", "mp4", str(target)]
    if preset not in CONCAT:
        return ["-i", str(source), "-map", "0:v:0", "-map", "0:a:0?", "-vf", _even(), *output]
    inputs = ["-i", str(intro), "-i", str(source)]
    picture = f"scale={media.width & ~1}:{media.height & ~1},setsar=1,fps=30,format=yuv420p"
    sound = "aresample=48000,aformat=channel_layouts=stereo"
    # A clip without sound still needs an audio input: concat joins streams pairwise.
    clip_sound = "[1:a]" if media.has_audio else f"anullsrc=r=48000:cl=stereo:d={media.seconds},"
    graph = (
        f"[0:v]{picture}[v0];[1:v]{picture}[v1];[0:a]{sound}[a0];{clip_sound}{sound}[a1];"
        "[v0][a0][v1][a1]concat=n=2:v=1:a=1[v][a]"
    )
    mapped = ["-filter_complex", graph, "-map", "[v]", "-map", "[a]"]
    if preset is Preset.CONCAT_SOME_SUBS:
        inputs += ["-i", str(subtitles)]
        mapped += ["-map", "2:s", "-c:s", "mov_text"]
    return [*inputs, *mapped, *output]


def _even() -> str:
    return "scale=trunc(iw/2)*2:trunc(ih/2)*2"


async def _gpu_encoder() -> tuple[str, ...]:
    for encoder in GPU_ENCODERS[:-1]:
        sample = ("-f", "lavfi", "-i", "color=size=256x256:duration=0.2", "-pix_fmt", "yuv420p")
        try:
            await run_ffmpeg(*sample, "-c:v", *encoder, "-f", "null", "-")
        except StepError:
            continue
        return encoder
    return GPU_ENCODERS[-1]
