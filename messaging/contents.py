"""What a release holds, before and after its versions are pinned, and the mail's list of it."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Count, OuterRef, Subquery, Sum
from django.db.models.functions import Coalesce
from django.template.defaultfilters import filesizeformat

from distribution.models import Grant, Release, ReleaseItem
from library.models import BundleVersion
from messaging.words import clean_source
from rows.planner import by_keys
from rows.sets import among


@dataclass(frozen=True)
class Line:
    """One bundle in the mail's list."""

    title: str
    files: int
    size: str


def versions_of(release: Release) -> list[BundleVersion]:
    """The pinned versions; before confirming the ones that sealing would pin: each bundle's newest that has a file.

    A bundle without a file has none. One query, however many bundles.
    """
    newest = BundleVersion.objects.newest_of(OuterRef("bundle"))
    given = release.items.values_list(Coalesce("version_id", Subquery(newest.values("pk"))), flat=True)
    return list(BundleVersion.objects.filter(pk__in=given).order_by("pk"))


def contents_of(release: Release) -> list[Line]:
    """What is inside, with how many files and how much."""
    versions = BundleVersion.objects.filter(pk__in=[version.pk for version in versions_of(release)])
    rows = versions.annotate(held=Count("files"), size=Sum("files__blob__size")).order_by("pk")
    return [
        Line(clean_source(title), files, filesizeformat(size))
        for title, files, size in rows.values_list("bundle__title", "held", "size")
    ]


def contents_of_each(releases: Iterable[int]) -> dict[int, list[Line]]:
    """What is inside each confirmed release, by its id. One query."""
    rows = (
        ReleaseItem.objects.filter(release__in=list(releases), version__isnull=False)
        .annotate(held=Count("version__files"), size=Sum("version__files__blob__size"))
        .order_by("release", "version")
        .values_list("release_id", "bundle__title", "held", "size")
    )
    found: dict[int, list[Line]] = defaultdict(list)
    for release_id, title, files, size in rows:
        found[release_id].append(Line(clean_source(title), files, filesizeformat(size)))
    return found


def still_given(grants: Iterable[int]) -> dict[int, Grant]:
    """Those of `grants` that were neither revoked nor recalled, with their releases.

    By keys, one table after the other: as a join, a database without statistics may begin with every grant there is.
    """
    with by_keys():
        found = Grant.objects.filter(among("pk", set(grants)), revoked_at=None).in_bulk()
    releases = Release.objects.filter(recalled_at=None).in_bulk(
        {grant.release_id for grant in found.values()}
    )
    for grant in found.values():
        if grant.release_id in releases:
            grant.release = releases[grant.release_id]
    return {pk: grant for pk, grant in found.items() if grant.release_id in releases}
