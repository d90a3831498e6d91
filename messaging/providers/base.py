"""What every way out says, and how sure it is of what became of a mail."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

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


@dataclass(frozen=True)
class Answer:
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
    """A way out. One connection, opened before an intent is written and never opened again inside one."""

    def open(self) -> None:
        """Ready to offer. Twice: nothing happens. Raises `NotOpen`."""

    def offer(self, mail: Mail) -> Answer:
        """Offers one mail, once. Raises `NotOpen` if that was refused before this mail came into it."""

    def close(self) -> None:
        """The connection is given back. Twice: nothing happens."""
