"""What a place for big files can do, in the words of S3's multipart upload, on disk too: one protocol."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from django.utils.translation import gettext as _

CHUNK = 512 * 1024


class Readable(Protocol):
    """Where a part's bytes come from: a request, a file."""

    def read(self, size: int, /) -> bytes: ...


class Source(Readable, Protocol):
    def close(self) -> None: ...


class Stretch(Iterator[bytes]):
    """The next `left` bytes of an open file, or all that is left of it, in chunks.

    Not a generator: one that was never begun would not run its `finally`, and leave the file open.
    """

    def __init__(self, source: Source, left: int | None) -> None:
        self.source, self.left = source, left

    def __next__(self) -> bytes:
        chunk = self.source.read(CHUNK if self.left is None else min(CHUNK, self.left))
        if not chunk:
            self.close()
            raise StopIteration
        if self.left is not None:
            self.left -= len(chunk)
        return chunk

    def close(self) -> None:
        self.source.close()


@dataclass(frozen=True)
class Part:
    """A part that the storage has, whole."""

    number: int
    size: int
    etag: str


class UploadGone(Exception):
    """The storage knows no such upload: it was completed, cancelled or never begun."""

    def __init__(self) -> None:
        super().__init__(_("This upload is over. Start it again."))


class PartCutShort(Exception):
    """Fewer bytes came than were announced: the connection broke."""

    def __init__(self, number: int) -> None:
        super().__init__(_("Part %(number)d arrived incomplete. Send it again.") % {"number": number})


class PartDamaged(Exception):
    """The bytes that came are not those whose SHA-256 was announced."""

    def __init__(self, number: int) -> None:
        super().__init__(_("Part %(number)d was damaged on its way. Send it again.") % {"number": number})


class PartOvertaken(Exception):
    """A later sender of the same part (a second tab, a retry) has taken over."""

    def __init__(self, number: int) -> None:
        super().__init__(_("Part %(number)d is being sent from elsewhere.") % {"number": number})


class PartsDiffer(Exception):
    """The parts to be joined are not the parts the storage has."""

    def __init__(self) -> None:
        super().__init__(_("Some parts of this upload are missing. Send them again."))


class StorageDown(Exception):
    """The disk is full or the bucket does not answer: worth a later try."""

    def __init__(self) -> None:
        super().__init__(_("The file store cannot take or give files right now. Try again in a minute."))


class Storage(ABC):
    """Big files by random key. Bytes are streamed through; no call holds a file in memory.

    Every method may raise StorageDown. A key is one path segment chosen by
    the caller and never used twice. Sizes and offsets are bytes.
    """

    @abstractmethod
    def create(self, key: str, *, part_size: int) -> str:
        """Begin an upload to `key`; returns its id. Every part but the last has exactly `part_size` bytes."""

    @abstractmethod
    def put_part(
        self, key: str, upload_id: str, number: int, stream: Readable, size: int, *, sha256: str = ""
    ) -> str:
        """Store `size` bytes of `stream` as part `number` (from 1); returns its etag.

        Twice: the later one replaces the earlier. With `sha256` (hex) the bytes are held against it.
        Raises PartCutShort, PartDamaged, PartOvertaken, UploadGone.
        """

    @abstractmethod
    def list_parts(self, key: str, upload_id: str) -> list[Part]:
        """The parts that arrived whole, by number. Raises UploadGone."""

    @abstractmethod
    def complete(self, key: str, upload_id: str, parts: Sequence[Part]) -> None:
        """Make `key` the joined `parts`. Twice: nothing changes. Raises PartsDiffer, UploadGone."""

    @abstractmethod
    def abort(self, key: str, upload_id: str) -> None:
        """Forget the upload and its parts. Twice, or after completing: nothing happens.

        Without an id (whoever began it was killed before it learnt it): every upload to this key.
        """

    @abstractmethod
    def open(self, key: str, start: int = 0, end: int | None = None) -> Stretch:
        """The bytes from `start` up to, not including, `end`. Raises FileNotFoundError here, not later.

        Close it, or read it to its end.
        """

    @abstractmethod
    def size(self, key: str) -> int:
        """Raises FileNotFoundError."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Twice, or for a key that is not there: nothing happens."""

    @abstractmethod
    def presigned_download(self, key: str, *, filename: str, content_type: str) -> str | None:
        """A link, good for minutes, by which a browser fetches the bytes itself; None: we serve them."""


class PartReader:
    """Reads one part off a stream: never past `size`, hashing as it goes, and unhappy about a short one."""

    def __init__(self, stream: Readable, number: int, size: int, sha256: str) -> None:
        self.stream, self.number, self.left, self.expected = stream, number, size, sha256
        self.hash = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        while self.left:
            try:
                chunk = self.stream.read(min(CHUNK, self.left))
            except OSError:
                # Django's UnreadablePostError too: the client went away.
                chunk = b""
            if not chunk:
                raise PartCutShort(self.number)
            self.left -= len(chunk)
            self.hash.update(chunk)
            yield chunk
        if self.expected and self.hash.hexdigest() != self.expected:
            raise PartDamaged(self.number)
