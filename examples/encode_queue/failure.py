"""The one error of a stage's work."""

from __future__ import annotations


class StepError(Exception):
    """A job cannot go on; the message is what its log will say."""
