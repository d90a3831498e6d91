"""A package as one ZIP, made while it is sent: nothing is stored, nothing is held, its length is known before.

Stored, not compressed: models and pictures are packed already, and only so can the length be told.
"""

import hashlib
from collections.abc import Iterator
from contextlib import closing

from zipstream import ZipStream

from library.models import Blob, File
from library.names import folder_name, path_key
from library.services.downloads import Package
from library.storage import storage

MANIFEST = "MANIFEST.sha256"


class BlobBroken(Exception):
    """The stored bytes are not those that were verified: the answer ends here, short of the length it gave."""


def zip_of(package: Package) -> ZipStream:
    """`<title>/…` for one bundle, `<title>/<bundle>/…` for several, and a manifest `sha256sum -c` understands."""
    root = folder_name(package.title)
    files = list(_paths(package))
    manifest = "".join(f"{file.blob.sha256}  {path}\n" for path, file in files)
    archive = ZipStream(sized=True)
    archive.add(manifest, f"{root}/{_free_name(MANIFEST, {path_key(path) for path, _file in files})}")
    for path, file in files:
        archive.add(_Bytes(file.blob), f"{root}/{path}", size=file.blob.size)
    return archive


def _paths(package: Package) -> Iterator[tuple[str, File]]:
    """Each file with its path under the root; bundles of one title get folders of their own."""
    folders: list[str] = []
    for version in package.versions:
        folder = ""
        if len(package.versions) > 1:
            folders.append(folder_name(version.bundle.title, taken=folders))
            folder = f"{folders[-1]}/"
        for file in version.files.all():
            yield f"{folder}{file.path}", file


def _free_name(name: str, taken: set[str]) -> str:
    while path_key(name) in taken:
        name = f"_{name}"
    return name


class _Bytes:
    """A blob's bytes, fetched when its turn comes, and held against its SHA-256 on the way."""

    def __init__(self, blob: Blob) -> None:
        self.blob = blob

    def __iter__(self) -> Iterator[bytes]:
        digest = hashlib.sha256()
        with closing(storage().open(self.blob.storage_key)) as chunks:
            for chunk in chunks:
                digest.update(chunk)
                yield chunk
        if digest.hexdigest() != self.blob.sha256:
            raise BlobBroken(self.blob.sha256)
