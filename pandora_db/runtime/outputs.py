"""Outputs of common kinds of jobs; a model of one's own is one more kind."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field


class JobOutput(BaseModel):
    """An output with a kind, which is stored beside it; derive from it and set `kind`.

    A field that the class does not have is refused: it would not be stored.
    """

    model_config = ConfigDict(extra="forbid")
    kind: ClassVar[str] = "custom"


class FileCopyOutput(JobOutput):
    """What a job that copies files has done."""

    kind: ClassVar[str] = "file_copy"
    copied_count: int = Field(ge=0)
    total_bytes: int = Field(ge=0)


class IndexedOutput(JobOutput):
    """What a job that walks through folders has found."""

    kind: ClassVar[str] = "indexed"
    total_files: int = Field(ge=0)
    total_dirs: int = Field(ge=0)
    total_bytes: int = Field(ge=0)


class MediaProcessedOutput(JobOutput):
    """What a job that looks at media has made."""

    kind: ClassVar[str] = "media_processed"
    thumbnails_generated: int = Field(ge=0)
    metadata_extracted: int = Field(ge=0)
