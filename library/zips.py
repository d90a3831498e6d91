"""What a ZIP holds, judged by its central directory and by how its files begin: none is ever unpacked whole.

Two readers must not see two different archives (the rules PyPI applies to wheels are the model), nothing may
land outside the folder it is unpacked to, and nothing may grow a thousandfold. What is merely unhandy is a
warning. Layout and names as in PKWARE's APPNOTE.TXT, sections 4.3.12 to 4.3.16.
"""

import re
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from django.utils.translation import gettext as _

from library.names import path_key, shown
from library.programs import OPENING, begins_like_a_program, is_program

# (offset, length) -> at most that many bytes, fewer only at the file's end.
Reader = Callable[[int, int], bytes]

END, END64, LOCATOR64, ENTRY = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"PK\x01\x02"
LOCAL = b"PK\x03\x04"
# What may stand before the first entry of an archive that was nearly split in pieces (APPNOTE 8.5.3 and 8.5.4).
MARKERS = frozenset([b"PK\x07\x08", b"PK00"])
MAX_ENTRIES = 100_000
MAX_DIRECTORY = 64 * 1024**2
MAX_UNPACKED = 1024**4
# ASCII models shrink some twenty times; deflate's bound, and a bomb's aim, is 1,032.
MAX_RATIO, RATIO_COUNTS_FROM = 200, 100 * 1024**2
# A local header may carry 64 kB of extra fields after its name, and a data descriptor after its bytes.
LOCAL_HEADER, LOCAL_SLACK = 30, 65_535 + 24
WRAP = 2**32
UNICODE_PATH, LONG_FIELDS = 0x7075, 1
DEFLATED = 8
# The beginnings of files are read in blocks, where they lie close together; so many blocks at most: a bucket takes
# its time for each.
BLOCK, MAX_BLOCKS = 64 * 1024, 2_000

ARCHIVES = frozenset(["7z", "bz2", "gz", "rar", "tar", "tgz", "xz", "zip", "zst"])


class ZipRefused(Exception):
    """An archive that is damaged, reads in two ways, or would do harm where it is unpacked."""


@dataclass(frozen=True)
class Entry:
    name: str
    header: int
    offset: int
    packed: int
    size: int
    encrypted: bool
    method: int
    link: bool


@dataclass(frozen=True)
class Contents:
    entries: list[Entry]
    # Made without ZIP64 though it is larger than 4 GB, as macOS does: its numbers wrapped around.
    wrapped: bool

    @property
    def names(self) -> list[str]:
        return [entry.name for entry in self.entries]


def begins_like_a_zip(head: bytes) -> bool:
    return head[:4] in {LOCAL, END} or (head[:4] in MARKERS and head[4:8] in {LOCAL, END})


def read_zip(read: Reader, size: int) -> Contents:
    """The entries of a ZIP of `size` bytes that is safe to hand on. Raises ZipRefused with a sentence."""
    start, length, count, wrapped = _directory(read, size)
    if count > MAX_ENTRIES or length > MAX_DIRECTORY:
        raise ZipRefused(_("This ZIP lists more than %(n)d files.") % {"n": MAX_ENTRIES})
    entries = list(_entries(read(start, length), length))
    if len(entries) != count and not (wrapped and len(entries) % 65_536 == count):
        raise ZipRefused(_("This ZIP is damaged: it does not hold as many files as it says."))
    for entry in entries:
        _check_entry(entry)
    if not wrapped:
        _check_layout(entries, start, begins_at=4 if read(0, 4) in MARKERS else 0)
        _check_openings(entries, read)
    _check_growth(entries, size)
    return Contents(entries, wrapped)


def first_bytes(read: Reader, entry: Entry, length: int) -> bytes:
    """At most the first `length` bytes of what `entry` holds; none if it is packed in a way we do not know."""
    header = read(entry.offset, LOCAL_HEADER)
    if entry.encrypted or header[:4] != LOCAL or len(header) < LOCAL_HEADER:
        return b""
    name_length, extra_length = struct.unpack_from("<HH", header, 26)
    packed = read(entry.offset + LOCAL_HEADER + name_length + extra_length, min(entry.packed, length + 1024))
    if entry.method == 0:
        return packed[:length]
    if entry.method != DEFLATED:
        return b""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, length)
    except zlib.error:
        return b""


def warnings_about(contents: Contents) -> Iterator[str]:
    """What the creator should know about a good ZIP (F6), a sentence each."""
    files = [name for name in contents.names if not name.endswith("/")]
    inner = [name for name in files if PurePosixPath(name).suffix.casefold()[1:] in ARCHIVES]
    twice = [key for key, count in Counter(map(path_key, files)).items() if count > 1]
    if any(entry.encrypted for entry in contents.entries):
        yield _("Protected by a password: what is in it could not be checked.")
    if inner:
        yield _("Has another archive inside (%(name)s): people must unpack twice.") % {
            "name": shown(inner[0])
        }
    if twice:
        yield _("Has two files of the same name (%(name)s): one would overwrite the other.") % {
            "name": shown(twice[0])
        }
    if any(name.startswith("__MACOSX/") for name in contents.names):
        yield _("Has hidden macOS files inside (__MACOSX): most people see them as clutter.")
    if contents.wrapped:
        yield _("Larger than 4 GB and made without ZIP64 (macOS does that): some programs cannot open it.")


def _directory(read: Reader, size: int) -> tuple[int, int, int, bool]:
    """Where the central directory lies: start, length, entries, and whether the numbers wrapped around."""
    tail_start = max(0, size - 22 - 65_535)
    tail = read(tail_start, size - tail_start)
    at = tail.rfind(END)
    if at < 0 or len(tail) - at < 22:
        raise ZipRefused(_("This ZIP is damaged: its end is missing. Was it copied whole?"))
    disk, first_disk, here, count, length, offset, comment = struct.unpack_from("<4x4H2LH", tail, at)
    if at + 22 + comment != len(tail):
        raise ZipRefused(_("This ZIP has something after its end. Pack it anew."))
    end = tail_start + at
    locator = read(end - 20, 20) if end >= 20 else b""
    if locator[:4] == LOCATOR64:
        end, count, length, offset = _directory64(read, end - 20, locator, (here, length, offset))
    elif disk or first_disk or here != count:
        raise ZipRefused(_("This is one piece of a ZIP split in pieces. Pack it as one file."))
    start = end - length
    if start == offset:
        return start, length, count, False
    if start >= WRAP and start % WRAP == offset and locator[:4] != LOCATOR64:
        return start, length, count, True
    raise ZipRefused(_("This ZIP is damaged or has something before its start. Pack it anew."))


def _directory64(
    read: Reader, locator_at: int, locator: bytes, short: tuple[int, int, int]
) -> tuple[int, int, int, int]:
    """The same from a ZIP64's own end record, which must lie right before its locator and agree with the short one."""
    confused = ZipRefused(_("This ZIP says two different things about what it holds. Pack it anew."))
    disk, at, disks = struct.unpack("<4xLQL", locator)
    record = read(at, 56) if at == locator_at - 56 else b""
    if record[:4] != END64 or disk or disks > 1:
        raise confused
    rest, disk, first_disk, here, count, length, offset = struct.unpack("<4xQ4x2L4Q", record)
    if rest != 44 or disk or first_disk or here != count:
        raise confused
    for long_value, short_value, unset in zip(
        (count, length, offset), short, (65_535, WRAP - 1, WRAP - 1), strict=True
    ):
        if short_value not in (unset, long_value):
            raise confused
    return at, count, length, offset


def _entries(directory: bytes, length: int) -> Iterator[Entry]:
    at = 0
    while at < length:
        if directory[at : at + 4] != ENTRY or length - at < 46:
            raise ZipRefused(_("This ZIP is damaged: its list of files cannot be read."))
        flags, method, packed, size, name_len, extra_len, comment_len, attributes, offset = (
            struct.unpack_from("<8xHH8xLL3H4xLL", directory, at)
        )
        name_at = at + 46
        extra_at = name_at + name_len
        at = extra_at + extra_len + comment_len
        if at > length:
            raise ZipRefused(_("This ZIP is damaged: its list of files cannot be read."))
        extra = _extra_fields(directory[extra_at : extra_at + extra_len])
        size, packed, offset = _wide(extra.get(LONG_FIELDS, b""), size, packed, offset)
        yield Entry(
            name=_name(directory[name_at:extra_at], extra, utf8=bool(flags & 0x800)),
            header=LOCAL_HEADER + name_len,
            offset=offset,
            packed=packed,
            size=size,
            encrypted=bool(flags & 0x2041),
            method=method,
            link=attributes >> 28 == 0o12,
        )


def _name(raw: bytes, extra: dict[int, bytes], *, utf8: bool) -> str:
    """As unpackers read it: in UTF-8 if the entry says so or carries a second name that belongs to the first."""
    second = extra.get(UNICODE_PATH, b"")
    if not utf8 and second[:1] == b"\x01" and second[1:5] == struct.pack("<L", zlib.crc32(raw)):
        raw, utf8 = second[5:], True
    try:
        return raw.decode("utf-8" if utf8 else "cp437").replace("\\", "/")
    except UnicodeDecodeError as error:
        raise ZipRefused(_("This ZIP has a file name that cannot be read. Pack it anew.")) from error


def _extra_fields(extra: bytes) -> dict[int, bytes]:
    """The extra fields by their tag, the first of each; read once from front to end, however many there are."""
    fields: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(extra):
        tag, length = struct.unpack_from("<HH", extra, at)
        fields.setdefault(tag, extra[at + 4 : at + 4 + length])
        at += 4 + length
    return fields


def _wide(long: bytes, *values: int) -> Iterator[int]:
    """`values` with the ZIP64 extra field in place of those that are at 2³²−1, in the order the format fixes."""
    at = 0
    for value in values:
        if value == WRAP - 1 and at + 8 <= len(long):
            yield int.from_bytes(long[at : at + 8], "little")
            at += 8
        else:
            yield value


def _check_entry(entry: Entry) -> None:
    # `shown` looks at every letter: only for what is refused.
    if entry.name.startswith("/") or re.match(r"[A-Za-z]:", entry.name) or ".." in entry.name.split("/"):
        raise ZipRefused(
            _("This ZIP would write outside its folder (%(name)s).") % {"name": shown(entry.name)}
        )
    if not entry.name or any(char < " " or char == "\x7f" for char in entry.name):
        raise ZipRefused(
            _("This ZIP has a file name with control characters (%(name)s).") % {"name": shown(entry.name)}
        )
    if entry.link:
        raise ZipRefused(
            _("This ZIP has a link inside (%(name)s). Pack the file itself.") % {"name": shown(entry.name)}
        )
    if is_program(entry.name):
        raise _program_inside(entry)
    if entry.method == 0 and not entry.encrypted and entry.packed != entry.size:
        raise ZipRefused(_("This ZIP lies about the size of %(name)s.") % {"name": shown(entry.name)})


def _check_openings(entries: list[Entry], read: Reader) -> None:
    """No file begins like a program, whatever it is called. Beyond `MAX_BLOCKS` blocks nobody looks."""
    start, block, blocks = 0, b"", 0

    def from_blocks(at: int, length: int) -> bytes:
        nonlocal start, block, blocks
        if not start <= at <= at + length <= start + len(block):
            start, block, blocks = at, read(at, max(length, BLOCK)), blocks + 1
        return block[at - start :][:length]

    for entry in sorted(entries, key=lambda entry: entry.offset):
        if begins_like_a_program(first_bytes(from_blocks, entry, OPENING)):
            raise _program_inside(entry)
        if blocks >= MAX_BLOCKS:
            return


def _program_inside(entry: Entry) -> ZipRefused:
    return ZipRefused(
        _("This ZIP has a program inside (%(name)s). Programs and scripts cannot be given.")
        % {"name": shown(entry.name)}
    )


def _check_layout(entries: list[Entry], directory_at: int, *, begins_at: int) -> None:
    """The entries lie one after the other from the first byte to the list: none shares bytes, none is hidden."""
    at, slack = begins_at, 0
    for entry in sorted(entries, key=lambda entry: entry.offset):
        if entry.offset < at:
            raise ZipRefused(_("This ZIP is a trap: its files overlap one another."))
        if entry.offset - at > slack:
            raise ZipRefused(_("This ZIP hides something between its files. Pack it anew."))
        at, slack = entry.offset + entry.header + entry.packed, LOCAL_SLACK
    if at > directory_at:
        raise ZipRefused(_("This ZIP is a trap: its files overlap one another."))
    if directory_at - at > LOCAL_SLACK:
        raise ZipRefused(_("This ZIP hides something between its files. Pack it anew."))


def _check_growth(entries: list[Entry], size: int) -> None:
    unpacked = sum(entry.size for entry in entries)
    if unpacked > MAX_UNPACKED or (unpacked > RATIO_COUNTS_FROM and unpacked > MAX_RATIO * size):
        raise ZipRefused(_("This ZIP is a trap: a little file that unpacks to an enormous one."))
