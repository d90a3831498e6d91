"""A draft as its writers save it: whoever did not see the last change is told, and overwrites nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext as _

from accounts.models import User
from distribution.models import Release
from distribution.services import choose_audience, choose_bundles, publish_release
from groups.models import Group
from library.models import Bundle
from messaging.models import Message
from messaging.services.refused import AlreadyConfirmed, DraftChanged


@dataclass(frozen=True)
class Seen:
    """Which state of a draft its writer has before them: its revision, and the page that shows it.

    A page's later save follows its own earlier one, whose answer may not have arrived yet; so it names itself.
    """

    revision: int | None
    page: UUID | None

    def is_the_last(self, message: Message) -> bool:
        """Whether nobody else saved it since."""
        followed = self.page is not None and message.saved_from == self.page
        return followed or message.revision == self.revision


@dataclass(frozen=True)
class Parts:
    """What a release is put together of, besides its words."""

    title: str
    bundles: Sequence[Bundle]
    groups: Sequence[Group]
    rule: str


def save_draft(
    message: Message,
    *,
    subject: str,
    body: str,
    parts: Parts | None = None,
    seen: Seen,
    by: User,
    now: datetime,
) -> int:
    """The draft is as given, whole and in one transaction; a reminder has words only. Returns its revision.

    Twice: nothing is overwritten, as it says the same. Raises `AlreadyConfirmed`, and `DraftChanged` if it was
    changed after it was `seen`; then nothing has changed.
    """
    with transaction.atomic():
        # The message first, as confirming takes it first; of two who save at once the second waits, and then sees.
        locked = Message.objects.select_for_update(no_key=True, of=("self",)).select_related("release")
        there = locked.filter(pk=message.pk, state=Message.State.DRAFT).first()
        if there is None:
            raise AlreadyConfirmed(_("This message is confirmed already."))
        if (there.subject, there.body) != (subject, body) or not _same(there.release, parts):
            if not seen.is_the_last(there):
                raise DraftChanged(
                    _("Somebody changed this draft after you opened it: nothing of yours was saved.")
                )
            there.subject, there.body, there.revision = subject, body, there.revision + 1
            there.saved_by, there.saved_at, there.saved_from = by, now, seen.page
            there.save(update_fields=["subject", "body", "revision", "saved_by", "saved_at", "saved_from"])
            if parts is not None:
                choose_bundles(message.release, parts.bundles)
                choose_audience(message.release, parts.groups, parts.rule)
                Release.objects.filter(pk=message.release_id).update(title=parts.title)
    message.subject, message.body = subject, body
    if parts is not None:
        message.release.title, message.release.rule = parts.title, Release.Rule(parts.rule)
    message.revision = there.revision
    return message.revision


def publish_draft(message: Message, *, revision: int, publish_at: datetime, by: User, now: datetime) -> None:
    """The release is given at `publish_at` without a mail, as it was saved in `revision`.

    Raises `DraftChanged`, and what `publish_release` raises; then nothing has changed.
    """
    with transaction.atomic():
        refuse_changed(
            Message.objects.select_for_update(no_key=True, of=("self",)).get(pk=message.pk), revision
        )
        publish_release(message.release, publish_at=publish_at, by=by, now=now)


def refuse_changed(message: Message, revision: int | None) -> None:
    """Raises `DraftChanged` unless the draft, locked and read, is still in `revision`; None is said of any."""
    if revision is not None and message.revision != revision:
        raise DraftChanged(_("It was changed while you sent it: nothing was sent. Look it over."))


def _same(release: Release, parts: Parts | None) -> bool:
    if parts is None:
        return True
    bundles = set(release.items.values_list("bundle", flat=True))
    groups = set(release.audience_rows.values_list("group", flat=True))
    there = (release.title, release.rule, bundles, groups)
    return there == (
        parts.title,
        parts.rule,
        {one.pk for one in parts.bundles},
        {one.pk for one in parts.groups},
    )
