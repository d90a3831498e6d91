"""Big files on the local disk: written once, at their offset, and renamed into place."""

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from library.storage.base import (
    Part,
    PartOvertaken,
    PartReader,
    PartsDiffer,
    Readable,
    Storage,
    StorageDown,
    Stretch,
    UploadGone,
)


class _Bytes:
    """A file's bytes, which may fail to come like those of any device."""

    def __init__(self, path: Path, start: int) -> None:
        with _device_errors():
            self.file = path.open("rb", buffering=0)
            self.file.seek(start)

    def read(self, size: int, /) -> bytes:
        with _device_errors():
            return self.file.read(size)

    def close(self) -> None:
        self.file.close()


class DiskStorage(Storage):
    """`<root>/blobs/ab/abcd…` holds what is complete, `<root>/uploads/<id>/` what is on its way.

    Parts go straight to their offset in one sparse file, so that fifteen gigabytes are written once and
    completing is a rename. Joining separate part files would write and hold everything twice.

    In an upload's folder: `data`, `lock`, and a record for each part: the sender's token, then size and etag
    once the part is whole and on the disk. The lock is held for one chunk's write at a time; a sender whose
    token is no longer in the record has been overtaken and writes nothing more, so two senders never mix.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def create(self, key: str, *, part_size: int) -> str:
        # The part size travels in the id: it is all that is needed to place a part, and it cannot get lost.
        upload_id = f"{part_size}-{key}"
        folder = self.root / "uploads" / upload_id
        with _disk_errors():
            folder.mkdir(parents=True)
            (folder / "data").touch()
            (folder / "lock").touch()
        return upload_id

    def put_part(
        self, key: str, upload_id: str, number: int, stream: Readable, size: int, *, sha256: str = ""
    ) -> str:
        folder, part_size = self._folder(upload_id)
        record, token = folder / f"{number}.part", secrets.token_hex(8)
        part = PartReader(stream, number, size, sha256)
        with _disk_errors(), self._locked(folder):
            record.write_text(token)
        offset = (number - 1) * part_size
        with _disk_errors(), open(folder / "data", "r+b", buffering=0) as data:
            for chunk in part:
                with self._locked(folder):
                    self._still_ours(record, token, number)
                    offset += _write_all(data.fileno(), chunk, offset)
            # Before the etag is given: what was acknowledged must survive a power cut.
            os.fdatasync(data.fileno())
        etag = part.hash.hexdigest()
        with _disk_errors(), self._locked(folder):
            self._still_ours(record, token, number)
            record.write_text(f"{token} {size} {etag}")
        return etag

    def list_parts(self, key: str, upload_id: str) -> list[Part]:
        folder, _part_size = self._folder(upload_id)
        with _disk_errors(), self._locked(folder):
            return self._whole_parts(folder)

    def complete(self, key: str, upload_id: str, parts: Sequence[Part]) -> None:
        path = self._path(key)
        if path.exists():
            self.abort(key, upload_id)
            return
        folder, part_size = self._folder(upload_id)
        with _disk_errors(), self._locked(folder):
            wanted = sorted(parts, key=lambda part: part.number)
            if not wanted or self._whole_parts(folder) != wanted or not _tiled(wanted, part_size):
                raise PartsDiffer
            with open(folder / "data", "r+b") as data:
                data.truncate(sum(part.size for part in wanted))
                os.fsync(data.fileno())
            path.parent.mkdir(parents=True, exist_ok=True)
            os.rename(folder / "data", path)
            _sync_folder(path.parent)
            # Still under the lock: a straggling sender finds no record of its own and stops.
            shutil.rmtree(folder)

    def abort(self, key: str, upload_id: str) -> None:
        if not upload_id:
            for begun in (self.root / "uploads").glob(f"*-{key}"):
                self.abort(key, begun.name)
            return
        try:
            folder, _part_size = self._folder(upload_id)
            with _disk_errors(), self._locked(folder):
                shutil.rmtree(folder)
        except UploadGone:
            return

    def open(self, key: str, start: int = 0, end: int | None = None) -> Stretch:
        return Stretch(_Bytes(self._path(key), start), None if end is None else end - start)

    def size(self, key: str) -> int:
        with _device_errors():
            return self._path(key).stat().st_size

    def delete(self, key: str) -> None:
        with _device_errors():
            self._path(key).unlink(missing_ok=True)

    def presigned_download(self, key: str, *, filename: str, content_type: str) -> str | None:
        return None

    def accelerated(self, key: str) -> str:
        """The blob's path under the root, for a web server that sends it by itself."""
        return self._path(key).relative_to(self.root).as_posix()

    def _path(self, key: str) -> Path:
        return self.root / "blobs" / key[:2] / key

    def _folder(self, upload_id: str) -> tuple[Path, int]:
        folder = self.root / "uploads" / upload_id
        if not folder.is_dir():
            raise UploadGone
        return folder, int(upload_id.partition("-")[0])

    @contextmanager
    def _locked(self, folder: Path) -> Iterator[None]:
        """Alone in `folder`, among threads and processes: flock binds to this very open()."""
        with open(folder / "lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _still_ours(self, record: Path, token: str, number: int) -> None:
        if record.read_text() != token:
            raise PartOvertaken(number)

    def _whole_parts(self, folder: Path) -> list[Part]:
        parts = []
        for record in folder.glob("*.part"):
            fields = record.read_text().split()
            if len(fields) == 3:
                parts.append(Part(int(record.stem), int(fields[1]), fields[2]))
        return sorted(parts, key=lambda part: part.number)


def _tiled(parts: Sequence[Part], part_size: int) -> bool:
    """Whether the parts leave no hole: numbered from 1, and only the last may be smaller."""
    numbers = [part.number for part in parts]
    return numbers == list(range(1, len(parts) + 1)) and all(part.size == part_size for part in parts[:-1])


@contextmanager
def _device_errors() -> Iterator[None]:
    """A disk that is full or failing is worth a later try; any other fault is ours and is not hidden."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE}:
            raise StorageDown from error
        raise


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Around work in an upload's folder: a folder that went meanwhile was completed or cancelled."""
    try:
        with _device_errors():
            yield
    except FileNotFoundError as gone:
        raise UploadGone from gone


def _write_all(fd: int, chunk: bytes, offset: int) -> int:
    """`pwrite` may write less than asked, on a disk that fills up; the next call then says why."""
    view = memoryview(chunk)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written
    return len(chunk)


def _sync_folder(folder: Path) -> None:
    """A rename lives in the folder: without this a power cut could forget it."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
