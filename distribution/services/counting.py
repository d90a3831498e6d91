"""How many people redeemed a release and how many downloaded of it: kept up to a moment, and counted from there on.

Whoever redeems writes no number: a thousand at once would wait for one row. What happened up to some minutes ago
happened for good, so a worker counts it once; what came since is found by an index, and the sum is exact.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Subquery

from distribution.models import Grant, Release, ReleaseItem
from library.models import Download, Holding, LibraryEntry
from library.services import count_holders

# Whoever redeemed or downloaded at a moment has committed it so long afterwards.
COMMITTED = timedelta(minutes=5)


@dataclass(frozen=True)
class Turnout:
    """In people; whoever was taken back from since has redeemed and downloaded all the same."""

    redeemed: int
    downloaded: int


def turnout(release: Release) -> Turnout:
    """As of now: two counts of what came since the last ones. `release` is as it was read from the database."""
    since = release.counted_at
    if since is None:
        return Turnout(_redeemed(release).count(), _downloaded(release).count())
    redeemed = _redeemed(release).filter(redeemed_at__gt=since)
    return Turnout(
        release.redeemed + redeemed.count(),
        release.downloaded + _downloaded(release, since=since).count(),
    )


def redeemed_of(releases: list[Release]) -> dict[int, int]:
    """How many redeemed each of `releases`, by its id: one query, of what came since they were counted."""
    since = Q(pk__in=[])
    for release in releases:
        of_it = Q(release=release.pk, redeemed_at__isnull=False)
        since |= of_it & Q(redeemed_at__gt=release.counted_at) if release.counted_at else of_it
    counted = Grant.objects.filter(since).order_by().values_list("release").annotate(number=Count("pk"))
    found = dict(counted)
    return {release.pk: release.redeemed + found.get(release.pk, 0) for release in releases}


def count_all(release_id: int, *, now: datetime) -> None:
    """How many redeemed and downloaded a release, and in how many libraries each of its bundles is. Twice: the same."""
    count_turnout(release_id, now=now)
    count_holders_of(release_id, now=now)


def count_holders_of(release_id: int, *, now: datetime) -> None:
    """Of a large release, whose bundles' holders would take long to count while a page is made."""
    items = ReleaseItem.objects.filter(release=release_id, release__granted__gt=Release.FEW).order_by(
        "bundle"
    )
    for bundle_id in list(items.values_list("bundle", flat=True)):
        count_holders(bundle_id, now=now)


def count_turnout(release_id: int, *, now: datetime) -> None:
    """What happened up to five minutes ago is in the release's numbers. Twice: nothing changes."""
    release = Release.objects.get(pk=release_id)
    since, until = release.counted_at, now - COMMITTED
    if since and since >= until:
        return
    # All of them again: an index has them, and what was ever missed is found.
    redeemed = _redeemed(release).filter(redeemed_at__lte=until).count()
    downloaded = _downloaded(release, since=since, until=until).count()
    # Unless another worker was quicker.
    as_before = Q(counted_at__isnull=True) if since is None else Q(counted_at=since)
    Release.objects.filter(as_before, pk=release_id).update(
        redeemed=redeemed, downloaded=release.downloaded + downloaded, counted_at=until
    )


def downloaders(release: Release) -> QuerySet[Download, int]:
    """The ids of the accounts that were given this release and took something of it, be it taken back since."""
    return _downloaded(release)


def taken_by(release: Release, account: str) -> Exists:
    """Whether the account of the outer row, there called `account`, is one of `downloaders`: asked row by row."""
    return Exists(_taken(release).filter(user=OuterRef(account)))


def _redeemed(release: Release) -> QuerySet[Grant]:
    return Grant.objects.filter(release=release, redeemed_at__isnull=False)


def _downloaded(
    release: Release, *, since: datetime | None = None, until: datetime | None = None
) -> QuerySet[Download, int]:
    """The accounts that took of it first after `since`, up to `until`."""
    taken = _taken(release)
    if since:
        before = taken.filter(user=OuterRef("user"), at__lte=since)
        taken = taken.filter(~Exists(before), at__gt=since)
    if until:
        taken = taken.filter(at__lte=until)
    return taken.order_by().values_list("user", flat=True).distinct()


def _taken(release: Release) -> QuerySet[Download]:
    # Their entry first, by its key, then by its own the holding, each as a value. As EXISTS or a join the planner may
    # begin with all holdings, which takes minutes where nobody has analysed them.
    entry = LibraryEntry.objects.filter(
        user=OuterRef(OuterRef("user")), bundle=OuterRef(OuterRef("version__bundle"))
    )
    held = Holding.objects.filter(
        entry=Subquery(entry.values("pk")[:1]), version=OuterRef("version"), origin_key=release.origin_key
    )
    # Ids, not a join: then the planner knows how few they are.
    versions = list(release.items.filter(version__isnull=False).values_list("version", flat=True))
    taken = Download.objects.filter(version__in=versions)
    return taken.alias(way=Subquery(held.values("pk")[:1])).filter(way__isnull=False)
