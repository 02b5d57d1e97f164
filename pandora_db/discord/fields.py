"""What a message can show, in each of the libraries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pandora_db.discord.text import fit
from pandora_db.errors import InvalidInput
from pandora_db.models.checks import refuse

FIELDS = frozenset({"content", "embed", "embeds", "view", "allowed_mentions"})
"""What both an edit and a new message take."""


def check_fields(given: Mapping[str, object]) -> dict[str, Any]:
    """The fields of a message, its content cut to fit; raises `InvalidInput`."""
    if unknown := sorted(given.keys() - FIELDS):
        raise InvalidInput(
            f"show does not take {', '.join(unknown)}; it takes {', '.join(sorted(FIELDS))}",
            field=unknown[0],
        )
    if not given:
        raise InvalidInput("show was given nothing to show; give content or embed", field="content")
    fields: dict[str, Any] = dict(given)
    content = cast("object", fields.get("content"))
    if isinstance(content, str):
        fields["content"] = fit(content)
    elif content is not None:
        refuse("content", content, "text, or None")
    return fields
