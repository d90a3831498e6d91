"""A message beside its release: begun, confirmed for a time, taken back."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext as _

from accounts.addresses import AddressRefused, address_key
from accounts.models import User
from distribution.audience import in_pieces
from distribution.models import Release
from distribution.services import ReleaseRefused, confirm_release, unschedule_release
from groups.rights import Right
from groups.services.staff import require_right
from library.services import StillUploading
from messaging import throttle
from messaging.contents import versions_of
from messaging.mail import Mailing
from messaging.models import Delivery, Message
from messaging.services.drafts import refuse_changed
from messaging.services.outcome import TOLD_SOMETIME, with_outcome
from messaging.services.plan import audience_groups
from messaging.services.refused import (
    AlreadyConfirmed,
    CannotSend,
    ConfirmRefused,
    NobodyToTell,
    NothingAttached,
    NothingNew,
    NotReady,
    TooSoon,
)
from messaging.services.reminders import check_time, refusals_to_remind, refuse_begun
from messaging.throttle import CapReached
from messaging.words import WordsRefused

FARTHEST = timedelta(days=366)


def start_message(release: Release) -> Message:
    """The draft of `release`'s message. Twice: the same one."""
    message, _created = Message.objects.get_or_create(release=release, kind=Message.Kind.ANNOUNCEMENT)
    return message


def confirm_message(
    message: Message,
    *,
    request_id: UUID,
    due_at: datetime,
    by: User,
    now: datetime,
    revision: int | None = None,
) -> Message:
    """The message and its release are confirmed for `due_at` (a past one means now), its slots are charged.

    `request_id` comes with the form: whoever posts it again gets the message it confirmed, and nothing happens.
    With `revision`, what is confirmed is the draft as it was then, or nothing. One short transaction; everything is
    refused before it is written. Raises `ConfirmRefused`.
    """
    require_right(by, Right.SEND, creator_id=message.release.creator_id)
    with transaction.atomic():
        # Of many confirming at once the others wait here, and then see what the first one did.
        draft = Message.objects.select_for_update(no_key=True, of=("self",)).select_related(
            "release__creator"
        )
        message = draft.get(pk=message.pk)
        if message.request_id == request_id:
            return message
        if message.state != Message.State.DRAFT:
            raise AlreadyConfirmed(
                _("People were reminded of this release already: once is all.")
                if message.kind == Message.Kind.REMINDER
                else _("This message is confirmed already.")
            )
        refuse_changed(message, revision)
        due_at = max(due_at, now)
        if due_at - now > FARTHEST:
            raise NotReady(_("Choose a time within the next twelve months."))
        for refused in refusals(message, now=now):
            raise refused
        if message.kind == Message.Kind.REMINDER:
            check_time(message, due_at=due_at)
        try:
            if message.kind == Message.Kind.ANNOUNCEMENT:
                confirm_release(message.release, publish_at=due_at, by=by, now=now)
            # Last: other releases to these groups wait for this lock.
            throttle.charge(message, audience_groups(message.release), at=due_at, now=now)
        except CapReached as reached:
            raise TooSoon(reached) from reached
        except (ReleaseRefused, StillUploading) as refused:
            raise NotReady(str(refused)) from refused
        message.state, message.request_id, message.due_at = Message.State.CONFIRMED, request_id, due_at
        message.save(update_fields=["state", "request_id", "due_at"])
    return message


# What a message has from its way to the mails.
LIFE = ["done_at", "moved_at", "progress_at", "stalled_at", "epoch", "lease_until"]


def unschedule_message(message: Message, *, now: datetime) -> None:
    """The message and its release are drafts again, its slots are free. Twice: nothing changes.

    Raises `distribution.services.AlreadyGiving` once a worker has begun to give the release.
    """
    with transaction.atomic():
        message = (
            Message.objects.select_for_update(no_key=True, of=("self",))
            .select_related("release")
            .get(pk=message.pk)
        )
        if message.kind == Message.Kind.ANNOUNCEMENT:
            unschedule_release(message.release)
        elif message.state != Message.State.DRAFT:
            refuse_begun(message)
        if message.state == Message.State.DRAFT:
            return
        throttle.give_back(message, now=now)
        message.state, message.request_id, message.due_at = Message.State.DRAFT, None, None
        # Nor does a draft remember that it was cancelled, had to wait or stood still.
        message.done_at = message.moved_at = message.progress_at = message.stalled_at = None
        message.waits_because = ""
        # A worker that just began to plan it finds that it is not its own any more.
        message.epoch, message.lease_until = message.epoch + 1, None
        message.save(update_fields=["state", "request_id", "due_at", "waits_because", *LIFE])


def refusals(message: Message, *, now: datetime) -> Iterator[ConfirmRefused]:
    """Why the message may not go whatever the time, one after another. Writes nothing."""
    release = message.release
    creator = release.creator
    if creator.approved_at is None:
        yield CannotSend(
            _("Your studio is not approved yet. Your draft is kept; you can send it after the approval.")
        )
    if creator.paused_at is not None:
        asked = _("Sending is paused for your studio. Write to the people who run this site.")
        yield CannotSend(f"{creator.paused_because} {asked}".strip())
    if not creator.postal_address.strip():
        yield CannotSend(_("Mail law asks for your postal address. Add it in your studio's settings."))
    try:
        address_key(creator.reply_to)
    except AddressRefused:
        yield CannotSend(
            _("Answers need an address to go to. Add a reply-to address in your studio's settings.")
        )
    if not message.subject.strip():
        yield NotReady(_("The message needs a subject. A title is enough: it becomes the subject."))
    try:
        Mailing(message)
    except WordsRefused as refused:
        yield NotReady(str(refused))
    if not 0 < len(versions_of(release)) == release.items.count():
        yield NothingAttached(
            _(
                "Each release gives files: attach at least one bundle, and upload to those that are still empty."
            )
        )
    if message.kind == Message.Kind.REMINDER:
        yield from refusals_to_remind(message)
    elif not anybody_to_tell(release, now=now):
        yield _untold(release, now=now)


def anybody_to_tell(release: Release, *, now: datetime) -> bool:
    """Whether at least one mail would go out, now or in a digest. Stops at the first."""
    pieces = (with_outcome(people, release) for people in in_pieces(release, now))
    return any(people.filter(reason__in=TOLD_SOMETIME).exists() for people in pieces)


def _untold(release: Release, *, now: datetime) -> ConfirmRefused:
    """Why nobody would be told: nothing of it is new to them, or nobody can be written to."""
    pieces = (with_outcome(people, release) for people in in_pieces(release, now))
    if any(people.filter(reason=Delivery.Reason.HOLDS_ALL).exists() for people in pieces):
        return NothingNew(
            _("Nothing of this is new: everybody here who can be written to holds all of it already.")
        )
    return NobodyToTell(_("No mail would go out: nobody in this audience can be written to."))
