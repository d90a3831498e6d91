"""A package as one ZIP: its files, the licence of each bundle, and a list of sums."""

from collections.abc import Iterator

from library.models import File
from library.names import folder_name, path_key
from library.services.downloads import Package
from library.zipping import Entry, Zip, entry_of

MANIFEST, LICENCE = "MANIFEST.sha256", "LICENCE.txt"


def zip_of(package: Package) -> Zip:
    """`<title>/…` for one bundle, `<title>/<bundle>/…` for several, and a manifest `sha256sum -c` understands.

    The same package is the same ZIP to the byte, as long as no title or licence changes.
    """
    root = folder_name(package.title)
    files = list(_files(package))
    manifest = "".join(f"{file.sha256}  {file.name}\n" for file in files).encode()
    manifest_name = _free_name(MANIFEST, [file.name for file in files])
    return Zip(
        Entry(f"{root}/{file.name}", file.size, file.crc32, file.sha256, file.content, file.key)
        for file in [entry_of(manifest_name, manifest), *files]
    )


def _files(package: Package) -> Iterator[Entry]:
    """Each file by its path under the root; bundles of one title get folders of their own."""
    folders: list[str] = []
    for version in package.versions:
        folder = ""
        if len(package.versions) > 1:
            folders.append(folder_name(version.bundle.title, taken=folders))
            folder = f"{folders[-1]}/"
        files: list[File] = list(version.files.all())
        if licence := version.bundle.licence.strip():
            name = _free_name(LICENCE, [file.path for file in files])
            yield entry_of(f"{folder}{name}", f"{licence}\n".encode())
        for file in files:
            blob = file.blob
            yield Entry(f"{folder}{file.path}", blob.size, blob.crc32, blob.sha256, key=blob.storage_key)


def _free_name(name: str, paths: list[str]) -> str:
    """`name`, or one like it that is neither a file nor a folder among `paths`."""
    keys = {path_key(path) for path in paths}
    taken = keys | {key[:at] for key in keys for at, char in enumerate(key) if char == "/"}
    while path_key(name) in taken:
        name = f"_{name}"
    return name
