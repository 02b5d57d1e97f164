"""The two ways in which something does not work out."""

from __future__ import annotations

from examples.encode_queue.failure import StepError


class HopelessError(StepError):
    """A job cannot go on, and another attempt would be no better."""


class RefusedError(Exception):
    """A user asked for what they cannot have; the message tells them."""
