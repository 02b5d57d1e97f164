"""`MessageRef`: where a message is, as it can be stored."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypedDict, cast

from pandora_db.codecs.checks import check_id
from pandora_db.errors import InvalidInput

if TYPE_CHECKING:
    from pandora_db.models.job_row import JobRow

_EPOCH = 1_420_070_400_000  # of Discord's ids, in unix milliseconds
_EXPECTED = (
    "a message of the bot: what `channel.send(…)` or `await interaction.original_response()` "
    "returned"
)


class JobFields(TypedDict, total=False):
    """What a message adds to a `Job`."""

    channel_id: int
    message_id: int
    guild_id: int
    author_id: int


@dataclass(frozen=True, slots=True)
class MessageRef:
    """A message of the bot, by ids that hold for ever; never the token of an interaction.

    Attributes:
        channel_id: the channel, thread or direct messages.
        message_id: the message; 0 when it is yet to be sent.
        guild_id: the guild; None in direct messages.
        user_id: who asked for the job; None when that is not known.

    Raises:
        InvalidInput: an id outside 0 … 2^63-1.
    """

    channel_id: int
    message_id: int
    guild_id: int | None = None
    user_id: int | None = None

    def __post_init__(self) -> None:
        check_id(self.channel_id, "channel_id")
        check_id(self.message_id, "message_id")
        if self.guild_id is not None:
            check_id(self.guild_id, "guild_id")
        if self.user_id is not None:
            check_id(self.user_id, "user_id")

    @classmethod
    def of(cls, message: object, user: object = None) -> Self:
        """Where `message` is, of whichever library.

        Args:
            message: a message that the bot sent, or the original response to an interaction.
            user: who asked for the job, or their id; None takes the user of the interaction that
                the message answers, if it says so.

        Raises:
            InvalidInput: it is no message, or an ephemeral one: those can be edited with the
                token of their interaction only, for 15 minutes.
        """
        # discord.py's `response.send_message` returns the response, which holds the message.
        found = cast("Any", getattr(message, "resource", None) or message)
        message_id = getattr(found, "id", None)
        channel = getattr(found, "channel", None)
        channel_id = getattr(channel, "id", None) or getattr(found, "channel_id", None)
        if not isinstance(message_id, int) or not isinstance(channel_id, int):
            raise InvalidInput(
                f"message is a {type(message).__name__}; expected {_EXPECTED}", field="message"
            )
        if getattr(getattr(found, "flags", None), "ephemeral", False):
            raise InvalidInput(
                "message is ephemeral: it can be edited for 15 minutes only, and not after a "
                "restart; answer with a message that others see too",
                field="message",
            )
        # A follow-up does not know its guild; the member who asked does.
        guild = next((g for o in (found, channel, user) if (g := getattr(o, "guild", None))), None)
        guild_id = getattr(guild, "id", None) or getattr(found, "guild_id", None)
        return cls(
            channel_id,
            message_id,
            guild_id if isinstance(guild_id, int) else None,
            _user_id(found, user),
        )

    @classmethod
    def from_job(cls, job: JobRow) -> Self | None:
        """The message of a stored job; None when it has no channel.

        Negative numbers, which other programs may store, stand for none.
        """
        channel, message, guild, user = (
            number if number is not None and number >= 0 else None
            for number in (job.channel_id, job.message_id, job.guild_id, job.author_id)
        )
        return cls(channel, message or 0, guild, user) if channel else None

    def age(self) -> float:
        """Seconds since the message was sent, as its id tells; 0 when it is yet to be sent."""
        if not self.message_id:
            return 0.0
        return max(time.time() - ((self.message_id >> 22) + _EPOCH) / 1000, 0.0)

    def job_fields(self) -> JobFields:
        """What to store with the job: `Job(author=…, **ref.job_fields())`."""
        fields: JobFields = {"channel_id": self.channel_id, "message_id": self.message_id}
        if self.guild_id is not None:
            fields["guild_id"] = self.guild_id
        if self.user_id is not None:
            fields["author_id"] = self.user_id
        return fields


def _user_id(message: Any, user: object) -> int | None:  # noqa: ANN401 - of any library
    if user is None:
        # Where there is the one, the other is deprecated, and says so when it is read.
        modern = hasattr(message, "interaction_metadata")
        name = "interaction_metadata" if modern else "interaction"
        user = getattr(getattr(message, name, None), "user", None)
    found = getattr(user, "id", user)
    if found is not None and not isinstance(found, int):
        raise InvalidInput(
            f"user is a {type(user).__name__}; expected a user, a member or an id", field="user"
        )
    return found
