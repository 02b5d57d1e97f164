"""What each preset means to ffmpeg."""

from __future__ import annotations

from examples.encode_queue.ffmpeg import run_ffmpeg
from pandora_db import ExecutionFailed, Preset

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


async def _gpu_encoder() -> tuple[str, ...]:
    for encoder in GPU_ENCODERS[:-1]:
        sample = ("-f", "lavfi", "-i", "color=size=256x256:duration=0.2", "-pix_fmt", "yuv420p")
        try:
            await run_ffmpeg(*sample, "-c:v", *encoder, "-f", "null", "-")
        except ExecutionFailed:
            continue
        return encoder
    return GPU_ENCODERS[-1]
