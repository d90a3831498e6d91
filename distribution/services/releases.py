"""A release on its way: a draft, confirmed for a time, or back to a draft."""

from collections.abc import Iterable
from datetime import datetime

from django.db import transaction
from django.utils.translation import gettext as _

from accounts.models import User
from accounts.services import record
from distribution.models import Release, ReleaseAudience, ReleaseItem
from groups.models import Creator, Group
from groups.rights import Right
from groups.services.staff import require_right
from library.models import Bundle
from library.services import NothingToSeal, seal_version


class ReleaseRefused(Exception):
    """This cannot be done with the release as it is; the sentence says why and what can be done."""


class NothingAttached(ReleaseRefused):
    """There is no file to give."""


class NobodyChosen(ReleaseRefused):
    """No living group is named."""


class NotApproved(ReleaseRefused):
    """The installation's admin has not approved this creator."""


class AlreadyConfirmed(ReleaseRefused):
    """The release is no draft any more."""


class AlreadyGiving(ReleaseRefused):
    """The release is being given or was given."""


def start_release(creator: Creator, *, now: datetime) -> Release:
    """A new draft of `creator`. Twice: two drafts."""
    return Release.objects.create(creator=creator, created_at=now)


def choose_bundles(release: Release, bundles: Iterable[Bundle]) -> None:
    """The draft holds exactly `bundles`, in this order. Twice: nothing changes. Raises `AlreadyConfirmed`."""
    chosen = list(bundles)
    if any(bundle.creator_id != release.creator_id for bundle in chosen):
        raise ValueError("a release holds bundles of its own creator")
    with transaction.atomic():
        _lock_draft(release)
        release.items.all().delete()
        ReleaseItem.objects.bulk_create(ReleaseItem(release=release, bundle=bundle) for bundle in chosen)


def choose_audience(release: Release, groups: Iterable[Group], rule: str) -> None:
    """The draft is for exactly `groups` by `rule`. Twice: nothing changes. Raises `AlreadyConfirmed`."""
    chosen = list(groups)
    if any(group.creator_id != release.creator_id for group in chosen):
        raise ValueError("a release is for groups of its own creator")
    with transaction.atomic():
        _lock_draft(release)
        release.audience_rows.all().delete()
        ReleaseAudience.objects.bulk_create(ReleaseAudience(release=release, group=group) for group in chosen)
        release.rule = Release.Rule(rule)
        release.save(update_fields=["rule"])


def confirm_release(release: Release, *, publish_at: datetime, by: User, now: datetime) -> None:
    """The release will be given at `publish_at` (at once if that is past), its versions are pinned.

    A conditional UPDATE decides: of many confirming at once one does, the others hear `AlreadyConfirmed`.
    Raises `NotApproved`, `NothingAttached`, `NobodyChosen`, `AlreadyConfirmed` and what `seal_version` raises
    beside `NothingToSeal`; then nothing has changed.
    """
    require_right(by, Right.SEND, creator_id=release.creator_id)
    with transaction.atomic():
        ours = Release.objects.filter(pk=release.pk, state=Release.State.DRAFT)
        if not ours.update(state=Release.State.CONFIRMED, publish_at=max(publish_at, now)):
            raise AlreadyConfirmed(_("This release is confirmed already."))
        if not Creator.objects.filter(pk=release.creator_id, approved_at__isnull=False).exists():
            raise NotApproved(
                _(
                    "Your studio is not approved yet. Your draft is kept; you can publish it after the approval."
                )
            )
        if not Group.objects.live().filter(release_rows__release=release).exists():
            raise NobodyChosen(_("Nobody would get this yet: choose at least one group."))
        _pin_versions(release, now)
        record(by, "confirmed release", f"release {release.pk}", creator_id=release.creator_id, now=now)
    release.refresh_from_db()


def publish_release(release: Release, *, publish_at: datetime, by: User, now: datetime) -> None:
    """The release will be given at `publish_at` without a mail: it lands in libraries, and signing in shows it.

    Twice, and refusals: as `confirm_release`, of which this is the normal form when nobody is written to.
    """
    confirm_release(release, publish_at=publish_at, by=by, now=now)


def unschedule_release(release: Release) -> None:
    """The release is a draft again and pins no version. Twice: nothing changes.

    Raises `AlreadyGiving` once a worker has begun: a conditional UPDATE decides between the two.
    """
    with transaction.atomic():
        waiting = Release.objects.filter(pk=release.pk, state=Release.State.CONFIRMED)
        if waiting.update(state=Release.State.DRAFT, publish_at=None):
            release.items.update(version=None)
        elif not Release.objects.filter(pk=release.pk, state=Release.State.DRAFT).exists():
            raise AlreadyGiving(_("This release is being given already and cannot be taken back to a draft."))
    release.refresh_from_db()


def reschedule_release(release: Release, *, publish_at: datetime) -> None:
    """The confirmed release is given at `publish_at` instead. Twice: nothing changes.

    Raises `AlreadyGiving` unless it still waits for its time: a conditional UPDATE decides.
    """
    waiting = Release.objects.filter(pk=release.pk, state=Release.State.CONFIRMED)
    if not waiting.update(publish_at=publish_at):
        raise AlreadyGiving(_("This release is being given already: its time cannot be changed any more."))
    release.publish_at = publish_at


def take_newest(release: Release, *, by: User, now: datetime) -> bool:
    """The confirmed release gives its bundles as they are now, no longer as they were when it was confirmed. Logged.

    Returns whether that is anything else than before; twice: False. Raises `AlreadyGiving` unless it still waits for
    its time, and `library.services.StillUploading`; then nothing has changed.
    """
    require_right(by, Right.SEND, creator_id=release.creator_id)
    with transaction.atomic():
        # The worker that begins to give it waits here, or we find that it was first.
        waiting = Release.objects.select_for_update(no_key=True).filter(pk=release.pk)
        if not waiting.filter(state=Release.State.CONFIRMED).values_list("pk").first():
            raise AlreadyGiving(
                _("This release is being given already: its files cannot be changed any more.")
            )
        before = set(release.items.values_list("version", flat=True))
        _pin_versions(release, now)
        changed = before != set(release.items.values_list("version", flat=True))
        if changed:
            record(
                by, "took newest versions", f"release {release.pk}", creator_id=release.creator_id, now=now
            )
    return changed


def _pin_versions(release: Release, now: datetime) -> None:
    # In one order: two releases of the same bundles, confirmed at once, must not wait for each other's locks.
    items = list(release.items.select_related("bundle").order_by("bundle"))
    if not items:
        raise NothingAttached(
            _("There is nothing to give yet: attach at least one bundle with a file, then go on.")
        )
    for item in items:
        try:
            item.version = seal_version(item.bundle, now=now)
        except NothingToSeal as empty:
            raise NothingAttached(str(empty)) from empty
        item.save(update_fields=["version"])


def _lock_draft(release: Release) -> None:
    """Until this transaction ends nobody confirms the release."""
    draft = Release.objects.select_for_update(no_key=True).filter(pk=release.pk, state=Release.State.DRAFT)
    if draft.values_list("pk").first() is None:
        raise AlreadyConfirmed(_("This release is confirmed already. Unschedule it to change it."))
