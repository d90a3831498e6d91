"""Giving: one grant for each entitled contact, in pages that survive anything."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, cast

from allauth.account.models import EmailAddress
from django.db import transaction
from django.db.models import Case, Exists, F, Max, OuterRef, Q, QuerySet, Value, When

from distribution.audience import audience, members_of, next_stop, reached_groups, roster_versions
from distribution.models import Grant, Release, ReleaseAudience
from distribution.services.gifts import Gift
from groups.models import Contact, Membership
from groups.services import attach_verified_accounts
from library.models import Holding, LibraryEntry
from rows.clock import db_now
from rows.lease import end_lease, take_lease
from rows.sets import insert_from
from rows.statistics import renew_statistics

PAGE = 10_000
LEASE_SECONDS = 30


class LeaseLost(Exception):
    """Another worker goes on with this release; nothing of this page is written."""


def fan_out_grants(release_id: int, *, now: datetime, page: int = PAGE) -> bool:
    """Everyone in the audience of the due moment has a grant, known accounts hold it, the release is published.

    Pages of contacts by key, each a transaction with its cursor and counters under the lease; at the end whoever is
    still missing if a roster has changed meanwhile, and the grants are counted anew. Killed anywhere, the next call
    goes on after the last page and writes nothing twice. Returns whether this call published it: False when it is
    not due or another worker has it.
    """
    release = Release.objects.due(now).filter(pk=release_id).first()
    if release is None or take_lease(release, seconds=LEASE_SECONDS) is None:
        return False
    # Due still: between the look and the lease another worker may have published it, or its creator taken it back.
    # The due moment, not this one: a worker that was away for a day changes nobody's share.
    begun = Release.objects.due(now).filter(pk=release.pk, epoch=release.epoch)
    if not begun.update(state=Release.State.GRANTING, as_of=F("publish_at")):
        end_lease(release)
        return False
    # Never the epoch: who took the lease since then has another, and must not be mistaken for us.
    release.refresh_from_db(fields=["as_of", "cursor"])
    try:
        rosters, gift, as_of = roster_versions(release), Gift.of(release), cast("datetime", release.as_of)
        groups, from_the_start = list(rosters), release.cursor == 0
        # Once for all: an address verified from here on is settled by `settle_waiting`, which waits for the page.
        _attach_accounts(members_of(groups, as_of, after=release.cursor), page)
        while _give_page(release, gift, groups, now, page):
            pass
        # Ids commit out of order: whoever was imported meanwhile may lie behind the cursor.
        if not from_the_start or roster_versions(release) != rosters:
            _give_missing(release, gift, as_of, now, page)
        granted = release.grants.count()
        _ours(release, granted=granted, state=Release.State.PUBLISHED, lease_until=None)
    except LeaseLost:
        return False
    renew_statistics(Grant, LibraryEntry, Holding, rows=granted)
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
        added = _give_missing(release, Gift.of(release), now, now, page)
    except LeaseLost:
        return 0
    # A join stamped by a clock ahead of ours is in the versions, but not live yet: look again later.
    joined_later = Q(started_at__gt=now) | Q(recorded_at__gt=now)
    if not Membership.objects.filter(joined_later, group__in=reached_groups(release)).exists():
        for row in seen:
            ReleaseAudience.objects.filter(pk=row.pk).update(version_seen=row.version)
    end_lease(release)
    return added


def _give_page(release: Release, gift: Gift, groups: Sequence[int], now: datetime, page: int) -> bool:
    """One page further; False when nobody is left."""
    as_of, after = cast("datetime", release.as_of), release.cursor
    stop = next_stop(groups, after=after, page=page)
    people = members_of(groups, as_of, after=after, until=stop).order_by("pk")[:page]
    with transaction.atomic():
        given = _grant(release, people, now)
        page_of = release.grants.filter(contact__gt=after)
        page_of = page_of.filter(contact__lte=stop) if stop else page_of
        # Nobody live up to there: the next page begins after it.
        end: int | None = page_of.aggregate(last=Max("contact"))["last"] or stop
        if end is None:
            return False
        contacts = Contact.objects.filter(pk__gt=after, pk__lte=end)
        grants = page_of.filter(contact__lte=end)
        _hand_over(release, gift, contacts=contacts, grants=grants, given=given, now=now, cursor=end)
    release.cursor = end
    return True


def _give_missing(release: Release, gift: Gift, as_of: datetime, now: datetime, page: int) -> int:
    """Until nobody in the audience is without a grant. Returns how many were."""
    granted = Grant.objects.filter(release=release, contact=OuterRef("pk"))
    missing = audience(release, as_of).exclude(Exists(granted)).order_by("pk").values_list("pk", flat=True)
    added = 0
    while ids := list(missing[:page]):
        contacts = Contact.objects.filter(pk__in=ids)
        _attach_accounts(contacts, page)
        with transaction.atomic():
            given = _grant(release, contacts, now)
            grants = release.grants.filter(contact__in=ids)
            _hand_over(release, gift, contacts=contacts, grants=grants, given=given, now=now)
        added += given
    return added


def _grant(release: Release, contacts: QuerySet[Contact], now: datetime) -> int:
    """`contacts` have a grant. Returns how many are new. Begins a page's transaction.

    The release's row is ours from here to the commit: a worker that lost the lease never inserts beside the one that
    has it, and whoever attaches an account meanwhile can wait for this page (`settle_waiting`).
    """
    _ours(release, lease_until=db_now() + timedelta(seconds=LEASE_SECONDS))
    return insert_from(
        contacts.values_list(Value(release.pk), "pk", Value(now)), Grant, ["release", "contact", "granted_at"]
    )


def _attach_accounts(contacts: QuerySet[Contact], page: int) -> None:
    """Those of `contacts` without an account whose address an account has verified are that account's."""
    verified = EmailAddress.objects.filter(email=OuterRef("address_key"), verified=True)
    strangers = contacts.filter(Exists(verified), account=None).values_list("pk", flat=True)
    while found := list(strangers[:page]):
        attach_verified_accounts(Contact.objects.filter(pk__in=found, account=None))


def _hand_over(
    release: Release,
    gift: Gift,
    *,
    contacts: QuerySet[Contact],
    grants: QuerySet[Grant],
    given: int,
    now: datetime,
    **progress: Any,
) -> None:
    """The accounts known behind `grants`, which `contacts` have, hold what is given. Counted; ends a page's transaction."""
    # CASE, so that the page's grants stay a list to look things up in. As a join they would be walked from the side
    # of the grants, of which the statistics know nothing yet: a tenth of the whole fan-out.
    waiting = Case(
        When(pk__in=grants.filter(redeemed_at=None, revoked_at=None).values("contact"), then=True),
        default=False,
    )
    known = contacts.filter(account__isnull=False).annotate(waiting=waiting).filter(waiting=True)
    held = gift.hand_over(known.values_list("account_id", flat=True), now=now)
    _ours(release, granted=F("granted") + given, held=F("held") + held, **progress)


def _ours(release: Release, **changes: Any) -> None:
    """Changes the release, if the lease is still ours. Raises `LeaseLost`."""
    if not Release.objects.filter(pk=release.pk, epoch=release.epoch).update(**changes):
        raise LeaseLost
