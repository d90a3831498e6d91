"""Giving: one grant for each entitled contact, in pages that survive anything."""

from datetime import datetime, timedelta
from typing import Any, cast

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Value

from distribution.audience import audience, page_end, reached_groups
from distribution.models import Grant, Release, ReleaseAudience
from distribution.services.gifts import hand_over
from groups.models import Contact, Membership
from groups.services import attach_verified_accounts
from library.models import Holding
from rows.clock import db_now
from rows.lease import end_lease, take_lease
from rows.sets import insert_from

PAGE = 10_000
LEASE_SECONDS = 30


class LeaseLost(Exception):
    """Another worker goes on with this release; nothing of this page is written."""


def fan_out_grants(release_id: int, *, now: datetime, page: int = PAGE) -> bool:
    """Everyone in the audience of the due moment has a grant, known accounts hold it, the release is published.

    Pages of contacts by key, each a transaction with its cursor and counters under the lease; at the end whoever
    is still missing, and the counts are taken anew. Killed anywhere, the next call goes on after the last page and
    writes nothing twice. Returns whether this call published it: False when it is not due or another worker has it.
    """
    release = Release.objects.due(now).filter(pk=release_id).first()
    if release is None or take_lease(release, seconds=LEASE_SECONDS) is None:
        return False
    try:
        # The due moment, not this one: a worker that was away for a day changes nobody's share.
        _ours(release, state=Release.State.GRANTING, as_of=F("publish_at"))
        release.refresh_from_db()
        as_of = cast("datetime", release.as_of)
        while _give_page(release, as_of, now, page):
            pass
        _give_missing(release, as_of, now, page)
        _publish(release, now)
    except LeaseLost:
        return False
    return True


def extend_to_late_joiners(release_id: int, *, now: datetime, page: int = PAGE) -> int:
    """Whoever belongs at `now` has a grant too, if the release is for late joiners. Returns how many are new.

    By anti-join, never by an id cursor: ids commit out of order. The roster versions are read first, so a join that
    commits meanwhile is left for the next sweep. Twice, or while another worker is at it: 0.
    """
    release = Release.objects.behind().filter(pk=release_id).first()
    if release is None or take_lease(release, seconds=LEASE_SECONDS) is None:
        return 0
    seen = list(ReleaseAudience.objects.filter(release=release).with_version())
    try:
        added = _give_missing(release, now, now, page)
    except LeaseLost:
        return 0
    # A join stamped by a clock ahead of ours is in the versions, but not live yet: look again later.
    joined_later = Q(started_at__gt=now) | Q(recorded_at__gt=now)
    if not Membership.objects.filter(joined_later, group__in=reached_groups(release)).exists():
        for row in seen:
            ReleaseAudience.objects.filter(pk=row.pk).update(version_seen=row.version)
    end_lease(release)
    return added


def _give_page(release: Release, as_of: datetime, now: datetime, page: int) -> bool:
    """One page further; False when nobody is left."""
    end = page_end(release, as_of, after=release.cursor, page=page)
    if end is None:
        return False
    contacts = audience(release, as_of, after=release.cursor, until=end)
    grants = release.grants.filter(contact__gt=release.cursor, contact__lte=end)
    _give(release, contacts, grants, now, cursor=end)
    release.cursor = end
    return True


def _give_missing(release: Release, as_of: datetime, now: datetime, page: int) -> int:
    """Until nobody in the audience is without a grant. Returns how many were."""
    granted = Grant.objects.filter(release=release, contact=OuterRef("pk"))
    missing = audience(release, as_of).exclude(Exists(granted)).order_by("pk").values_list("pk", flat=True)
    added = 0
    while ids := list(missing[:page]):
        contacts = Contact.objects.filter(pk__in=ids)
        added += _give(release, contacts, release.grants.filter(contact__in=ids), now)
    return added


def _give(
    release: Release,
    contacts: QuerySet[Contact],
    grants: QuerySet[Grant],
    now: datetime,
    **progress: Any,
) -> int:
    """`contacts` have their `grants`, known accounts hold it, and it is counted: one transaction, under the lease."""
    attach_verified_accounts(contacts.filter(account=None))
    with transaction.atomic():
        # First: a worker that lost the lease waits here or fails, and never inserts against the one that has it.
        _ours(release, lease_until=db_now() + timedelta(seconds=LEASE_SECONDS))
        given = insert_from(
            contacts.values_list(Value(release.pk), "pk", Value(now)),
            Grant,
            ["release", "contact", "granted_at"],
        )
        held = _hold(release, grants, now)
        _ours(release, granted=F("granted") + given, held=F("held") + held, **progress)
    return given


def _hold(release: Release, grants: QuerySet[Grant], now: datetime) -> int:
    """The known accounts behind `grants` hold what is given. Returns how many grants that are."""
    known = grants.filter(contact__account__isnull=False, redeemed_at=None)
    hand_over(release, known.values_list("contact__account_id", flat=True), now=now)
    return known.count()


def _publish(release: Release, now: datetime) -> None:
    """Nobody is missing: the release is published, its counts are what the tables say, the lease is given back."""
    holding = Holding.objects.filter(origin_key=release.origin_key, entry__user=OuterRef("contact__account"))
    with transaction.atomic():
        # Accounts that came to be known after their page.
        _hold(release, release.grants.exclude(Exists(holding)), now)
        known = release.grants.filter(contact__account__isnull=False, redeemed_at=None)
        _ours(
            release,
            state=Release.State.PUBLISHED,
            granted=release.grants.count(),
            held=known.count(),
            lease_until=None,
        )


def _ours(release: Release, **changes: Any) -> None:
    """Changes the release, if the lease is still ours. Raises `LeaseLost`."""
    if not Release.objects.filter(pk=release.pk, epoch=release.epoch).update(**changes):
        raise LeaseLost
