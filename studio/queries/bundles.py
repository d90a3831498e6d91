"""Bundles: what is in them, what is on its way into them, who holds them."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Count, Exists, OuterRef, QuerySet, Sum

from groups.models import Creator
from library.models import Bundle, BundleVersion, File, Upload
from library.services import holders_of


@dataclass(frozen=True)
class BundleCard:
    """A bundle with what is in its newest version and how many people hold it."""

    bundle: Bundle
    files: int
    size: int
    holders: int


def bundle_cards(bundles: Iterable[Bundle]) -> list[BundleCard]:
    """Two queries, however many bundles."""
    bundles = list(bundles)
    newer = BundleVersion.objects.filter(bundle=OuterRef("bundle"), number__gt=OuterRef("number"))
    newest = BundleVersion.objects.filter(~Exists(newer), bundle__in=bundles).values("bundle")
    sizes = {
        row["bundle"]: (row["files__count"], row["files__blob__size__sum"] or 0)
        for row in newest.annotate(Count("files"), Sum("files__blob__size"))
    }
    holders = holders_of(bundles)
    return [
        BundleCard(bundle, *sizes.get(bundle.pk, (0, 0)), holders.get(bundle.pk, 0)) for bundle in bundles
    ]


def files_of(version: BundleVersion | None) -> QuerySet[File]:
    """The files of a version by name; of no version, none."""
    return File.objects.filter(version=version).select_related("blob") if version else File.objects.none()


def files_in(creator: Creator) -> QuerySet[File]:
    """Every file of a creator, in whatever version."""
    return File.objects.filter(version__bundle__creator=creator).select_related("version__bundle")


def unfinished_uploads(bundle: Bundle) -> QuerySet[Upload]:
    """What is on its way into a bundle, and what was refused lately and why."""
    waiting = [Upload.State.OPEN, Upload.State.VERIFYING, Upload.State.REFUSED]
    return bundle.uploads.filter(state__in=waiting).order_by("-id")[:50]
