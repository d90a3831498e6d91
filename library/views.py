"""The member's side: what is in the library, one bundle of it, and the bytes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

from django.core.paginator import Paginator
from django.db.models import Count, Max, Sum
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.models import User
from groups.models import Creator
from library import services
from library.models import Bundle, BundleVersion, Download, File, Holding, LibraryEntry
from library.prose import to_html
from library.serving import is_first_request, serve_cover, serve_file, serve_package

PAGE = 24


@dataclass
class Given:
    """One release on a shelf: the entries that came with it last."""

    holding: Holding
    entries: list[LibraryEntry] = field(default_factory=list)


@dataclass
class Shelf:
    """What one creator gave, newest first."""

    creator: Creator
    releases: list[Given] = field(default_factory=list)


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """Everything that was given to this person: creator, release, bundle (L5)."""
    user = cast("User", request.user)
    entries = LibraryEntry.objects.of(user).live()
    # Ten thousand are put in order by their numbers alone; only the page's own are fetched whole.
    page = Paginator(entries.newest_first().values_list("pk", flat=True), PAGE).get_page(
        request.GET.get("page")
    )
    whole = LibraryEntry.objects.select_related("bundle__creator").in_bulk(list(page))
    context = {
        "page": page,
        "shelves": _shelves([whole[pk] for pk in page]),
        "creators": entries.values("bundle__creator").distinct().count(),
    }
    return render(request, "library/home.html", context)


@require_safe
def entry(request: HttpRequest, pk: int) -> HttpResponse:
    """One bundle: what it is, its files, and every way it came. Without a live holding it only says why."""
    user = cast("User", request.user)
    found = get_object_or_404(LibraryEntry.objects.of(user).select_related("bundle__creator"), pk=pk)
    ways = list(found.holdings.select_related("version").order_by("-given_at", "-pk"))
    live = [way for way in ways if way.ended_at is None]
    version = max((way.version for way in live), key=lambda version: version.number, default=None)
    files = _files(user, version) if version else []
    context = {
        "entry": found,
        "bundle": found.bundle,
        "description": to_html(found.bundle.description),
        "licence": to_html(found.bundle.licence),
        "ways": ways,
        "newest": live[0] if live else None,
        "files": files,
        "size": sum(file.blob.size for file in files),
    }
    return render(request, "library/entry.html", context)


@require_safe
def download_file(request: HttpRequest, pk: int) -> HttpResponseBase:
    try:
        file = services.open_download(
            cast("User", request.user), pk, first=is_first_request(request), now=timezone.now()
        )
    except services.NotHeld as error:
        raise Http404(str(error)) from error
    return serve_file(request, file)


@require_safe
def download_everything(request: HttpRequest, pk: int) -> HttpResponseBase:
    try:
        package = services.open_everything(
            cast("User", request.user), pk, first=is_first_request(request), now=timezone.now()
        )
    except services.NotHeld as error:
        raise Http404(str(error)) from error
    return serve_package(request, package)


@require_safe
def download_release(request: HttpRequest, pk: int) -> HttpResponseBase:
    try:
        package = services.open_release(
            cast("User", request.user), pk, first=is_first_request(request), now=timezone.now()
        )
    except services.NotHeld as error:
        raise Http404(str(error)) from error
    return serve_package(request, package)


@require_safe
def cover(request: HttpRequest, pk: int) -> HttpResponseBase:
    """For the creator's staff and for whoever has the bundle in the library."""
    bundle = get_object_or_404(Bundle.objects.seen_by(cast("User", request.user)).exclude(cover=""), pk=pk)
    return serve_cover(bundle)


def _shelves(entries: Sequence[LibraryEntry]) -> list[Shelf]:
    """The page's entries by creator, then by the release each came with last; the order of the page is kept."""
    newest = _newest_ways(entries)
    # One that was taken back since the page was counted has no way any more.
    entries = [one for one in entries if one.pk in newest]
    _measure(entries, newest.values())
    shelves: dict[int, Shelf] = {}
    releases: dict[tuple[int, str], Given] = {}
    for one in entries:
        creator, way = one.bundle.creator, newest[one.pk]
        shelf = shelves.setdefault(creator.pk, Shelf(creator))
        key = (creator.pk, way.origin_key)
        if key not in releases:
            releases[key] = Given(way)
            shelf.releases.append(releases[key])
        releases[key].entries.append(one)
    return list(shelves.values())


def _newest_ways(entries: Sequence[LibraryEntry]) -> dict[int, Holding]:
    ways = Holding.objects.live().filter(entry__in=entries).order_by("given_at", "pk")
    return {way.entry_id: way for way in ways}


def _measure(entries: Iterable[LibraryEntry], ways: Iterable[Holding]) -> None:
    """Each entry knows how many files it has and how many bytes, by one query for the page."""
    totals = (
        File.objects.filter(version__in=[way.version_id for way in ways])
        .order_by()
        .values_list("version__bundle")
        .annotate(Count("pk"), Sum("blob__size"))
    )
    by_bundle = {bundle: (count, size) for bundle, count, size in totals}
    for one in entries:
        one.file_count, one.total_size = by_bundle.get(one.bundle_id, (0, 0))  # type: ignore[attr-defined]


def _files(user: User, version: BundleVersion) -> list[File]:
    """The version's files, each with the moment this person took it last, alone or with all the others."""
    downloads = Download.objects.filter(user=user, version=version)
    taken: dict[int | None, datetime] = dict(downloads.values_list("file").annotate(Max("at")))
    files = list(version.files.select_related("blob"))
    for file in files:
        moments = [moment for moment in (taken.get(file.pk), taken.get(None)) if moment]
        file.taken_at = max(moments, default=None)  # type: ignore[attr-defined]
    return files
