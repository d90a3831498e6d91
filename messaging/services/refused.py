"""Why a message may not go, as whoever confirms it is told."""

from datetime import datetime

from messaging.throttle import CapReached


class ConfirmRefused(Exception):
    """The message may not go as it is. `str()` says why and is safe to show; nothing was written.

    `next_at` is when it could go instead, where waiting helps. `can_publish`: whether the files can be given now
    without a mail, which is the other way out.
    """

    next_at: datetime | None = None
    can_publish = False


class CannotSend(ConfirmRefused):
    """The creator may not send now: not approved, paused, or without an address that mail law asks for."""


class NotReady(ConfirmRefused):
    """The words or the release are not complete."""


class NothingAttached(ConfirmRefused):
    """There is no file to give: no attachment, no send (M2)."""


class NothingNew(ConfirmRefused):
    """Whoever could be written to holds every attached version already (M2)."""

    can_publish = True


class NobodyToTell(ConfirmRefused):
    """No mail would go out."""

    can_publish = True


class TooSoon(ConfirmRefused):
    """A group has had its messages."""

    can_publish = True

    def __init__(self, reached: CapReached) -> None:
        super().__init__(reached.reason)
        self.next_at = reached.next_at


class TooEarly(ConfirmRefused):
    """A reminder before people had the time to redeem."""

    def __init__(self, said: str, *, next_at: datetime) -> None:
        super().__init__(said)
        self.next_at = next_at


class DraftChanged(ConfirmRefused):
    """Somebody changed the draft after its writer looked at it last."""


class AlreadyConfirmed(ConfirmRefused):
    """It is no draft any more."""
