"""What every way out says, and how sure it is of what became of a mail."""

from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from typing import ClassVar, NamedTuple, Protocol

from messaging.mail import Mail


class Kind(StrEnum):
    """What we know of a mail that was offered."""

    ACCEPTED = "accepted"
    # Certainly not taken; it may be offered again.
    LATER = "later"
    # Certainly not taken, and it never will be.
    REFUSED = "refused"
    # It may or may not have been taken: never offered again by itself.
    IN_DOUBT = "in doubt"
    # It never left us, for a reason that is not its own: as if nothing had been tried.
    NOT_OFFERED = "not offered"


class Answer(NamedTuple):
    """What became of one offer, and what was said about it."""

    kind: Kind
    said: str = ""
    code: int | None = None
    # What the provider calls the mail.
    provider_id: str = ""
    # There is no such mailbox: writing to it again would cost the sender's good name.
    no_such_address: bool = False


class NotOpen(Exception):
    """No mail can be offered now, whoever it is for; nothing was offered. `str()` is safe to show."""

    # How long to leave it alone.
    seconds = 60.0


class SignInRefused(NotOpen):
    """The mail server does not accept our name, password or sender: somebody has to mend the settings."""

    seconds = 300.0


class Provider(Protocol):
    """A way out. Everything it needs is open before an intent is written, and nothing is opened again inside one."""

    # What it is called in the rows.
    name: ClassVar[str]
    # Whether the mails of a wave leave in one call, so that what holds for one of them may hold for all.
    shares_calls: ClassVar[bool]
    # How long the same call may be repeated under its key without a second mail; None: it has no such key.
    replays_for: ClassVar[timedelta | None]
    # Whether it can be asked what became of a mail.
    searches: ClassVar[bool]

    def open(self) -> int:
        """Ready to offer a wave of so many mails, at least one. Twice: the same. Raises `NotOpen`."""

    def offer(self, mails: Sequence[Mail]) -> list[Answer]:
        """Offers each of `mails` once; an answer for each, in their order. Never more than `open` said."""

    def close(self) -> None:
        """The connections are given back. Twice: nothing happens."""
