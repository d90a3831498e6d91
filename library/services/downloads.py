"""Who may download what: the right is a live holding, asked for at every request anew."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Exists, OuterRef, Prefetch, QuerySet
from django.utils.translation import gettext as _

from accounts.models import User
from library.models import BundleVersion, Download, File, Holding, LibraryEntry


class NotHeld(Exception):
    """No live holding of this person reaches what was asked for."""

    def __init__(self) -> None:
        super().__init__(_("This is not in your library, or not any more."))


@dataclass(frozen=True)
class Package:
    """Versions to be handed over together, under one title."""

    title: str
    versions: Sequence[BundleVersion]


def open_download(user: User, file_id: int, *, first: bool, now: datetime) -> File:
    """The file, if `user` holds a version it is in now. Raises NotHeld.

    It is noted down if this is the `first` request for it: a browser that goes on where it stopped asks many
    times and has downloaded once.
    """
    # By way of the entry, whose pair of keys is the index; holdings have none by version.
    right = Holding.objects.live().filter(
        entry__user=user, entry__bundle=OuterRef("version__bundle"), version=OuterRef("version")
    )
    file = File.objects.filter(Exists(right), pk=file_id).select_related("blob", "version").first()
    if file is None:
        raise NotHeld
    if first:
        Download.objects.create(user=user, version=file.version, file=file, at=now)
    return file


def open_everything(user: User, entry_id: int, *, first: bool, now: datetime) -> Package:
    """All files of the newest version that `user` holds through this entry, noted down as with one file.

    Raises NotHeld.
    """
    held = Holding.objects.live().filter(entry__pk=entry_id, entry__user=user)
    return _package(held.order_by("-version__number")[:1], first=first, now=now, user=user)


def open_release(user: User, holding_id: int, *, first: bool, now: datetime) -> Package:
    """All that came to `user` together with this holding and is held still, noted down as with one file.

    Raises NotHeld.
    """
    live = Holding.objects.live().filter(entry__user=user)
    origin = live.filter(pk=holding_id).values_list("origin_key", "title").first()
    if origin is None:
        raise NotHeld
    came_so = Holding.objects.live().filter(origin_key=origin[0])
    entries = list(LibraryEntry.objects.of(user).by(came_so).values_list("pk", flat=True))
    together = came_so.filter(entry__in=entries).order_by("pk")
    return _package(together, title=origin[1], first=first, now=now, user=user)


def _package(held: QuerySet[Holding], *, title: str = "", first: bool, now: datetime, user: User) -> Package:
    files = Prefetch("version__files", File.objects.select_related("blob"))
    versions = [row.version for row in held.select_related("version__bundle").prefetch_related(files)]
    if not versions:
        raise NotHeld
    if first:
        Download.objects.bulk_create(Download(user=user, version=version, at=now) for version in versions)
    return Package(title or versions[0].bundle.title, versions)
