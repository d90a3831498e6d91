"""A ZIP that is made while it is sent, from any byte on: stored, every length and sum known before.

Nothing in it depends on when or how often it is asked for, so that two downloads are the same to the byte and one
that broke off goes on where it stopped. Layout as in PKWARE's APPNOTE.TXT, sections 4.3.7 to 4.3.16 and 4.5.3.
"""

import hashlib
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import accumulate

from library.storage import storage

# What the short fields hold when the long ones count.
FULL, FULL_COUNT = 2**32 - 1, 2**16 - 1
UTF8_NAME, STORED = 0x0800, 0
PLAIN, ZIP64 = 20, 45
# 1 January 1980, the first day a ZIP knows: the same whoever asks, whenever.
TIME, DATE = 0, 0x21
# Made on a Unix, as an ordinary file that all may read: without it some unpackers give no rights at all.
MADE_BY, ORDINARY_FILE = 3 << 8, 0o100644 << 16


class BlobBroken(Exception):
    """The stored bytes are not those that were verified: the answer ends here, short of the length it gave."""


@dataclass(frozen=True)
class Entry:
    """A file of the ZIP: `content` itself, or the bytes the storage has under `key`."""

    name: str
    size: int
    crc32: int
    sha256: str
    content: bytes = b""
    key: str = ""


def entry_of(name: str, content: bytes) -> Entry:
    """A small file that is made for this ZIP."""
    return Entry(name, len(content), zlib.crc32(content), hashlib.sha256(content).hexdigest(), content)


class Zip:
    """The archive of `entries`, in their order; its length and any stretch of it without reading what lies before."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._pieces: list[bytes | Entry] = []
        directory, at, count = [], 0, 0
        for entry in entries:
            header = _local_header(entry)
            self._pieces += [header, entry.content or entry]
            directory.append(_listed(entry, at))
            at, count = at + len(header) + entry.size, count + 1
        listing = b"".join(directory)
        self._pieces += [listing, _end(count, len(listing), at)]
        self._starts = [0, *accumulate(map(_length, self._pieces))]

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def etag(self) -> str:
        """What names these very bytes: the headers hold each name, size and CRC-32, the SHA-256 the rest."""
        digest = hashlib.sha256()
        for piece in self._pieces:
            digest.update(piece.sha256.encode() if isinstance(piece, Entry) else piece)
        return f'"{digest.hexdigest()}"'

    def stretch(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to, not including, `end`. Raises BlobBroken when a stored file is not whole."""
        end = len(self) if end is None else min(end, len(self))
        for index in range(max(0, bisect_right(self._starts, start) - 1), len(self._pieces)):
            piece, at = self._pieces[index], self._starts[index]
            first, last = max(0, start - at), min(_length(piece), end - at)
            if first >= last:
                if at >= end:
                    return
                continue
            if isinstance(piece, Entry):
                yield from _stored(piece, first, last)
            else:
                yield piece[first:last]


def _length(piece: bytes | Entry) -> int:
    return piece.size if isinstance(piece, Entry) else len(piece)


def _stored(entry: Entry, start: int, end: int) -> Iterator[bytes]:
    """Held against its length, and read whole against its SHA-256 too; of a part the reader's CRC-32 must judge."""
    digest, left = hashlib.sha256(), end - start
    with closing(storage().open(entry.key, start, end)) as chunks:
        for chunk in chunks:
            digest.update(chunk)
            left -= len(chunk)
            yield chunk
    if left or (end - start == entry.size and digest.hexdigest() != entry.sha256):
        raise BlobBroken(entry.sha256)


def _local_header(entry: Entry) -> bytes:
    name, long = entry.name.encode(), entry.size >= FULL
    extra = struct.pack("<HHQQ", 1, 16, entry.size, entry.size) if long else b""
    short = FULL if long else entry.size
    return (
        struct.pack(
            "<4s5H3L2H",
            b"PK\x03\x04",
            ZIP64 if long else PLAIN,
            UTF8_NAME,
            STORED,
            TIME,
            DATE,
            entry.crc32,
            short,
            short,
            len(name),
            len(extra),
        )
        + name
        + extra
    )


def _listed(entry: Entry, offset: int) -> bytes:
    """The entry's line in the central directory; of the long fields only those whose short ones are full."""
    name, long, far = entry.name.encode(), entry.size >= FULL, offset >= FULL
    fields = [entry.size, entry.size] * long + [offset] * far
    extra = struct.pack(f"<HH{len(fields)}Q", 1, 8 * len(fields), *fields) if fields else b""
    version, size = ZIP64 if fields else PLAIN, FULL if long else entry.size
    return (
        struct.pack(
            "<4s6H3L5H2L",
            b"PK\x01\x02",
            MADE_BY | version,
            version,
            UTF8_NAME,
            STORED,
            TIME,
            DATE,
            entry.crc32,
            size,
            size,
            len(name),
            len(extra),
            0,
            0,
            0,
            ORDINARY_FILE,
            FULL if far else offset,
        )
        + name
        + extra
    )


def _end(count: int, length: int, offset: int) -> bytes:
    """The end of the archive, the long form before the short one where a number does not fit."""
    long = b""
    if count >= FULL_COUNT or length >= FULL or offset >= FULL:
        long = struct.pack(
            "<4sQ2H2L4Q", b"PK\x06\x06", 44, MADE_BY | ZIP64, ZIP64, 0, 0, count, count, length, offset
        ) + struct.pack("<4sLQL", b"PK\x06\x07", 0, offset + length, 1)
    short = struct.pack(
        "<4s4H2LH",
        b"PK\x05\x06",
        0,
        0,
        min(count, FULL_COUNT),
        min(count, FULL_COUNT),
        min(length, FULL),
        min(offset, FULL),
        0,
    )
    return long + short
