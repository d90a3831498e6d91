"""One more mail about a release, to those who have not redeemed it (M6)."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.utils.translation import gettext as _

from distribution.models import Release
from distribution.services import AlreadyGiving
from messaging.models import Message
from messaging.services.outcome import TOLD_SOMETIME, with_outcome
from messaging.services.refused import ConfirmRefused, NobodyToTell, NotReady, TooEarly
from messaging.services.source import grants_to_tell

NOT_BEFORE = timedelta(days=3)


def start_reminder(release: Release, *, now: datetime) -> Message:
    """The draft of `release`'s reminder, with words that can go as they are. Twice: the same one.

    Raises `NotReady` for a release that nobody was given yet, or that was taken back.
    """
    if (refused := _not_given(release)) is not None:
        raise refused
    message, _created = Message.objects.get_or_create(
        release=release,
        kind=Message.Kind.REMINDER,
        defaults={
            "subject": _("Still waiting for you: {release}"),
            "body": _(
                "Hi {first_name|there},\n\n*{release}* is still waiting for you. It is yours at one press."
            ),
        },
    )
    return message


def earliest(release: Release) -> datetime:
    """When a reminder may go: three days after the announcement began to go out, or after the files were given."""
    told = release.messages.filter(kind=Message.Kind.ANNOUNCEMENT, started_at__isnull=False)
    begun: datetime | None = told.values_list("started_at", flat=True).first()
    return (begun or release.as_of or release.created_at) + NOT_BEFORE


def refusals_to_remind(message: Message) -> Iterator[ConfirmRefused]:
    """Why the reminder may not go whatever the time, besides what stops every message. Writes nothing."""
    waiting = grants_to_tell(message)
    left = with_outcome(waiting, message.release, contact="contact__", kind=message.kind)
    if (refused := _not_given(message.release)) is not None:
        yield refused
    elif not left.filter(reason__in=TOLD_SOMETIME).exists():
        yield NobodyToTell(
            _("There is nobody left to remind: everybody has redeemed it, or cannot be written to.")
        )


def check_time(message: Message, *, due_at: datetime) -> None:
    """Raises `TooEarly` for a reminder that would go before its time."""
    first = earliest(message.release)
    if due_at < first:
        raise TooEarly(
            _("Give people three days: a reminder can go once this was out for that long."), next_at=first
        )


def refuse_begun(message: Message) -> None:
    """Raises `AlreadyGiving` for a reminder whose mails are planned: from then on it is cancelled, not taken back."""
    if message.state != Message.State.CONFIRMED or message.planned_at or message.cursor:
        raise AlreadyGiving(_("This is on its way already and cannot be taken back."))


def _not_given(release: Release) -> NotReady | None:
    release = Release.objects.get(pk=release.pk)
    if release.recalled_at:
        return NotReady(_("This release was recalled: there is nothing to remind of."))
    if release.state != Release.State.PUBLISHED:
        return NotReady(_("A reminder is for a release that people have been given already."))
    return None
