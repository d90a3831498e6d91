"""The files of a bundle, put together in one open version and then sealed."""

from collections.abc import Iterable
from datetime import datetime

from django.db import transaction
from django.utils.translation import gettext as _

from library.models import Blob, Bundle, BundleVersion, File, Upload
from library.names import path_key, safe_path, shown


class NothingToSeal(Exception):
    """A bundle without a file: there is nothing to give."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(_("“%(title)s” has no files yet. Upload some first.") % {"title": bundle.title})


class StillUploading(Exception):
    """A file is on its way into the bundle: sealing now would leave it out."""

    def __init__(self, bundle: Bundle, path: str) -> None:
        words = {"title": bundle.title, "path": shown(path)}
        super().__init__(
            _("“%(path)s” is still being uploaded to “%(title)s”. Wait for it, or cancel it.") % words
        )


class NameTaken(Exception):
    """Two names that one folder on somebody's disk cannot both hold."""


class BundleArchived(Exception):
    """An archived bundle is closed: its files stay as they are."""

    def __init__(self) -> None:
        super().__init__(_("This bundle is archived. Its files can no longer change."))


class FileMoved(Exception):
    """The file is no longer in the bundle's newest version: somebody else removed or renamed it."""

    def __init__(self) -> None:
        super().__init__(_("This file has changed meanwhile. Look at the list again."))


def latest_version(bundle: Bundle) -> BundleVersion | None:
    """What the creator sees and works on: the open version, otherwise the newest sealed one."""
    return bundle.versions.order_by("-number").first()


def seal_version(bundle: Bundle, *, now: datetime) -> BundleVersion:
    """The sealed version to give: the open one, sealed now, if it has files, otherwise the newest sealed one.

    Nothing in it ever changes again; the next change of a file opens the next version. Twice: the same version.
    Raises NothingToSeal, StillUploading.
    """
    with transaction.atomic():
        _lock(bundle)
        running = Upload.objects.running().filter(bundle=bundle).order_by("pk").first()
        if running:
            raise StillUploading(bundle, running.path)
        version = bundle.versions.filter(sealed_at=None).first()
        if version and version.files.exists():
            version.sealed_at = now
            version.save(update_fields=["sealed_at"])
            return version
        newest = bundle.versions.sealed().order_by("-number").first()
        if newest is None:
            raise NothingToSeal(bundle)
        return newest


def open_version(bundle: Bundle, *, now: datetime) -> BundleVersion:
    """The bundle's open version. If there is none, the next one is opened as a copy of the newest sealed one.

    Call it inside the transaction that changes the files: it locks the bundle. Twice: the same version.
    Raises BundleArchived.
    """
    if _lock(bundle).archived_at:
        raise BundleArchived
    newest = bundle.versions.order_by("-number").first()
    if newest and newest.sealed_at is None:
        return newest
    version = BundleVersion.objects.create(bundle=bundle, number=newest.number + 1 if newest else 1)
    if newest:
        File.objects.bulk_create(
            File(
                version=version,
                blob_id=file.blob_id,
                path=file.path,
                path_key=file.path_key,
                kind=file.kind,
                warning=file.warning,
                added_at=file.added_at,
            )
            for file in newest.files.all()
        )
    return version


def place_file(bundle: Bundle, path: str, blob: Blob, *, kind: str, warning: str, now: datetime) -> File:
    """`path` in the open version is `blob`; a file of exactly this name was replaced by it.

    Call it inside a transaction. Twice: the same. Raises NameTaken, BundleArchived.
    """
    version = open_version(bundle, now=now)
    check_name_free(path, version.files.exclude(path=path).values_list("path", flat=True))
    file, _created = File.objects.update_or_create(
        version=version,
        path_key=path_key(path),
        defaults={"path": path, "blob": blob, "kind": kind, "warning": warning, "added_at": now},
    )
    return file


def remove_file(file: File, *, now: datetime) -> None:
    """The bundle's newest version no longer has the file; sealed versions keep it.

    Twice: FileMoved. Raises BundleArchived too.
    """
    with transaction.atomic():
        _in_open_version(file, now=now).delete()


def rename_file(file: File, path: str, *, now: datetime) -> File:
    """The file is called `path` in the bundle's newest version, safely spelt; sealed versions keep the old name.

    Twice: the same. Raises NameRefused, NameTaken, FileMoved, BundleArchived.
    """
    path = safe_path(path)
    with transaction.atomic():
        renamed = _in_open_version(file, now=now)
        others = renamed.version.files.exclude(pk=renamed.pk).values_list("path", flat=True)
        check_name_free(path, others)
        renamed.path, renamed.path_key = path, path_key(path)
        renamed.save(update_fields=["path", "path_key"])
    return renamed


def archive_bundle(bundle: Bundle, *, now: datetime) -> None:
    """The bundle is out of the creator's way and closed. Who holds it keeps it: bundles are never deleted.

    Twice: the first moment stays.
    """
    Bundle.objects.live().filter(pk=bundle.pk).update(archived_at=now)


def check_name_free(path: str, others: Iterable[str]) -> None:
    """Raises NameTaken if `path` cannot stand beside `others` in one folder on every disk."""
    key = path_key(path)
    parents = {key[:at] for at, char in enumerate(key) if char == "/"}
    for other in others:
        other_key = path_key(other)
        words = {"path": shown(path), "other": shown(other)}
        if other_key == key:
            raise NameTaken(
                _("“%(path)s” and “%(other)s” would be one file on many computers. Rename one.") % words
            )
        if other_key in parents or other_key.startswith(f"{key}/"):
            raise NameTaken(_("“%(path)s” and “%(other)s” are a file and a folder of one name.") % words)


def _lock(bundle: Bundle) -> Bundle:
    """The bundle as it is now, with whatever changes its files or versions waiting for us."""
    return Bundle.objects.select_for_update(no_key=True).get(pk=bundle.pk)


def _in_open_version(file: File, *, now: datetime) -> File:
    bundle = file.version.bundle
    latest = latest_version(bundle)
    if latest is None or latest.pk != file.version_id:
        raise FileMoved
    version = open_version(bundle, now=now)
    twin = version.files.filter(path_key=file.path_key).first()
    if twin is None:
        raise FileMoved
    return twin
