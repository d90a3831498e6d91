"""ZIPs as they come, and ZIPs made to hurt. Bytes are patched by hand where no packer would write them."""

import contextlib
import io
import os
import struct
import time
import zipfile
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from library import zips
from library.zips import Contents, Reader, ZipRefused, read_zip, warnings_about


def zipped(*files: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files:
            archive.writestr(zipfile.ZipInfo(name) if method == zipfile.ZIP_STORED else name, data)
    return out.getvalue()


def reader(data: bytes) -> Reader:
    return lambda start, length: data[start : start + length]


def check(data: bytes) -> Contents:
    return read_zip(reader(data), len(data))


def patched(data: bytes, at: int, fmt: str, *values: int) -> bytes:
    out = bytearray(data)
    struct.pack_into(fmt, out, at, *values)
    return bytes(out)


GOOD = zipped(("a.stl", b"solid"), ("folder/b.stl", b"facet"))
LIST = GOOD.index(b"PK\x01\x02")
END = GOOD.index(b"PK\x05\x06")


def zip64(data: bytes = GOOD, **wrong: int) -> bytes:
    """The same archive with the long form of its end."""
    count, length, offset = struct.unpack_from("<10xHLL", data, data.index(b"PK\x05\x06"))
    end = data.index(b"PK\x05\x06")
    said = {
        "rest": 44,
        "disk": 0,
        "here": count,
        "count": count,
        "length": length,
        "offset": offset,
        "at": end,
    } | wrong
    record = struct.pack(
        "<4sQHHLLQQQQ", b"PK\x06\x06", said["rest"], 45, 45, said["disk"], 0, said["here"], said["count"],
        said["length"], said["offset"],
    )  # fmt: skip
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, said["at"], 1)
    short = struct.pack(
        "<4sHHHHLLH", b"PK\x05\x06", 0, 0, 65_535, 65_535, 2**32 - 1, wrong.get("short", 2**32 - 1), 0
    )
    return data[:end] + record + locator + short


@pytest.mark.parametrize(
    "data",
    [
        GOOD,
        zipped(),
        zipped(("text.txt", b"x" * 5000), method=zipfile.ZIP_DEFLATED),
        zip64(),
        zipped(("月.stl", b"x"), ("back\\slash.stl", b"x")),
    ],
)
def test_an_honest_zip_is_read(data: bytes) -> None:
    assert len(check(data).entries) == len(zipfile.ZipFile(io.BytesIO(data)).infolist())


def test_a_zip_with_data_descriptors_is_read() -> None:
    class Unseekable(io.RawIOBase):
        def __init__(self) -> None:
            self.data = b""

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            self.data += bytes(data)  # type: ignore[call-overload]
            return len(bytes(data))  # type: ignore[call-overload]

    out = Unseekable()
    with zipfile.ZipFile(out, "w") as archive:  # type: ignore[call-overload]
        archive.writestr("a.stl", b"solid" * 1000)
        archive.writestr("b.stl", b"solid" * 1000)
    assert check(out.data).names == ["a.stl", "b.stl"]


def second_name(name: str, other: str, *, of: str = "") -> bytes:
    """A ZIP whose entry has another name in Info-ZIP's Unicode path field."""
    info = zipfile.ZipInfo(name)
    field = b"\1" + struct.pack("<L", zlib.crc32((of or name).encode())) + other.encode()
    info.extra = struct.pack("<HH", 0x7075, len(field)) + field
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(info, b"x")
    return out.getvalue()


def test_the_second_name_counts_if_it_belongs_to_the_first() -> None:
    assert check(second_name("dragon_.stl", "dragön.stl")).names == ["dragön.stl"]
    assert check(second_name("dragon_.stl", "dragön.stl", of="another.stl")).names == ["dragon_.stl"]


@pytest.mark.parametrize(
    "names",
    [
        ("myfigures.com/", "myfigures.com/dragon.stl"),
        ("myfigures.com/dragon.stl",),
        ("My.App/", "My.App/a.stl"),
        ("a.py/readme.txt",),
    ],
)
def test_a_folder_called_like_a_program_is_a_folder(names: tuple[str, ...]) -> None:
    assert check(zipped(*[(name, b"") for name in names])).names == list(names)


def test_beyond_so_many_blocks_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [(f"{number}.stl", os.urandom(90_000)) for number in range(5)]
    data = zipped(*files, ("last.stl", b"\x7fELF"))
    with pytest.raises(ZipRefused):
        check(data)
    reads: list[int] = []

    def counted(start: int, length: int) -> bytes:
        reads.append(length)
        return data[start : start + length]

    monkeypatch.setattr(zips, "MAX_BLOCKS", 3)
    read_zip(counted, len(data))
    assert len(reads) <= 3 + 4


def test_work_grows_with_the_list_and_not_with_its_square() -> None:
    def seconds(fields: int) -> float:
        info = zipfile.ZipInfo("a.stl")
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr(info, b"x")
            info.extra = struct.pack("<HH", 0x9999, 0) * fields
        data = out.getvalue()
        least = 9.0
        for _try in range(5):
            began = time.process_time()
            check(data)
            least = min(least, time.process_time() - began)
        return least

    assert seconds(16_000) < 8 * seconds(4_000), "four times as much takes sixteen times as long"


def as_symlink(data: bytes) -> bytes:
    return patched(data, LIST + 38, "<L", 0o120777 << 16)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (GOOD[:-5], "end is missing"),
        (GOOD[: END - 3], "end is missing"),
        (GOOD + b"<script>", "after its end"),
        (b"MZ" + GOOD, "before its start"),
        (zipped(("../../etc/passwd", b"x")), "outside its folder"),
        (zipped(("a/../../x", b"x")), "outside its folder"),
        (zipped(("..\\x.stl", b"x")), "outside its folder"),
        (zipped(("/etc/passwd", b"x")), "outside its folder"),
        (zipped(("C:/x.stl", b"x")), "outside its folder"),
        (zipped(("a\rb.stl", b"x")), "control characters"),
        (patched(GOOD, LIST + 28, "<HH", 0, 5), "control characters"),
        (as_symlink(GOOD), "link inside"),
        (zipped(("setup.EXE", b"x")), "program inside"),
        (zipped(("a.lnk", b"x")), "program inside"),
        (zipped(("a.scr. .", b"x")), "program inside"),
        (zipped(("a.js", b"x")), "program inside"),
        (zipped(("disk.iso", b"x")), "program inside"),
        *[
            (zipped((f"fine/{name}", b"x")), "program inside")
            for name in ["a.url", "b.desktop", "c.docm", "d.sh", "e.py", "f.xlsm", "g.pptm", "h.ps1", "i.vbs", "j.jar", "k.command", "l.reg", "m.msi", "n.hta", "o.wsf", "p.App", "q.webloc", "r.AppImage"]
        ],
        (zipped(("x/Figures.app/Contents/MacOS/figures", b"x")), "program inside"),
        (zipped(("dragon.stl", b"MZ" + b"\0" * 70)), r"program inside \(dragon.stl\)"),
        (zipped(("a.stl", b"x"), ("b.stl", b"\x7fELF" + b"x" * 90_000), ("c.stl", b"x")), r"\(b.stl\)"),
        (zipped(("a.txt", b"x" * 90_000), ("b.txt", b"#!/bin/sh\n"), method=zipfile.ZIP_DEFLATED), r"\(b.txt\)"),
        (second_name("a.stl", "setup.exe"), "program inside"),
        (b"PK00" + GOOD, "before its start"),
        (patched(GOOD, LIST + 24, "<L", 4_000), "lies about the size"),
        (patched(GOOD, LIST + 42, "<L", 20), "hides something"),
        (patched(GOOD, END + 8, "<HH", 3, 3), "not hold as many"),
        (patched(GOOD, END + 8, "<HH", 1, 2), "split in pieces"),
        (patched(GOOD, END + 4, "<H", 1), "split in pieces"),
        (patched(GOOD, END + 16, "<L", LIST - 1), "before its start"),
        (patched(GOOD, LIST, "<L", 0), "cannot be read"),
        (patched(GOOD, LIST + 28, "<H", 60_000), "cannot be read"),
        (patched(patched(GOOD, LIST + 8, "<H", 0x800), LIST + 46, "<B", 0xFF), "name that cannot be read"),
        (zipped(("bomb.bin", b"\0" * 200_000_000), method=zipfile.ZIP_DEFLATED), "unpacks to an enormous"),
        (zip64(rest=60), "two different things"),
        (zip64(disk=1), "two different things"),
        (zip64(here=1), "two different things"),
        (zip64(at=5), "two different things"),
        (zip64(short=77), "two different things"),
        (zip64(offset=3), "before its start"),
        (zip64(count=200_000, here=200_000), "lists more than"),
    ],
)  # fmt: skip
def test_a_zip_that_would_do_harm_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(ZipRefused, match=why):
        check(data)


@given(st.binary(max_size=200), st.integers(0, len(GOOD)), st.integers(0, 40))
def test_whatever_comes_is_read_or_refused(junk: bytes, at: int, cut: int) -> None:
    for data in (junk, GOOD[:at] + junk + GOOD[at + cut :], zip64()[:at] + junk + zip64()[at + cut :]):
        with contextlib.suppress(ZipRefused):
            check(data)


def test_entries_that_share_their_bytes_are_a_trap() -> None:
    data = zipped(("a.stl", b"x" * 300), ("b.stl", b"x" * 300))
    second = data.rindex(b"PK\x01\x02")
    with pytest.raises(ZipRefused, match="overlap"):
        check(patched(data, second + 42, "<L", 0))
    last = data.index(b"PK\x01\x02")
    with pytest.raises(ZipRefused, match="overlap"):
        check(patched(data, second + 20, "<LL", last, last))


def test_bytes_between_the_files_and_the_list_are_hidden_content() -> None:
    data = zipped(("a.stl", b"x"))
    at = data.index(b"PK\x01\x02")
    fat = data[:at] + b"h" * 70_000 + data[at:]
    end = fat.index(b"PK\x05\x06")
    with pytest.raises(ZipRefused, match="hides something"):
        check(patched(fat, end + 16, "<L", at + 70_000))


def test_sizes_beyond_four_gigabytes_come_from_the_long_fields() -> None:
    extra = struct.pack("<HHHHQQ", 0x9999, 0, 1, 16, 5 * 2**30, 5 * 2**30)
    data = zipped(("a.stl", b"x"))
    at, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    entry = bytearray(data[at:end] + extra)
    struct.pack_into("<LL", entry, 20, 2**32 - 1, 2**32 - 1)
    struct.pack_into("<H", entry, 30, len(extra))
    size = 5 * 2**30 + 10_000
    start = 30 + 5 + 5 * 2**30
    record = struct.pack("<4sQHHLLQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, len(entry), start)
    tail = bytes(entry) + record + struct.pack("<4sLQL", b"PK\x06\x07", 0, start + len(entry), 1)
    tail += struct.pack("<4sHHHHLLH", b"PK\x05\x06", 0, 0, 1, 1, len(entry), 2**32 - 1, 0)
    size = start + len(tail)
    contents = read_zip(far(start, tail), size)
    assert (contents.entries[0].size, contents.wrapped) == (5 * 2**30, False)


def far(start: int, tail: bytes) -> Reader:
    """A file of zeros up to `start`, so that the test need not hold gigabytes."""
    return lambda at, length: (
        b"\0" * min(length, max(0, start - at)) + tail[max(0, at - start) : max(0, at + length - start)]
    )


def test_a_large_zip_of_macos_is_read_although_its_numbers_wrapped_around() -> None:
    data = zipped(("a.stl", b"x"), ("__MACOSX/._a.stl", b"x"))
    at = data.index(b"PK\x01\x02")
    start = 2**32 + 77
    tail = bytearray(data[at:])
    struct.pack_into("<L", tail, tail.index(b"PK\x05\x06") + 16, 77)
    contents = read_zip(far(start, bytes(tail)), start + len(tail))
    assert contents.wrapped
    assert [text.split(":")[0] for text in warnings_about(contents)] == [
        "Has hidden macOS files inside (__MACOSX)",
        "Larger than 4 GB and made without ZIP64 (macOS does that)",
    ]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: zipped(("a.stl", b"x")), ""),
        (lambda: zipped(("folder/", b""), ("Folder/", b"")), ""),
        (lambda: zipped(("inner.zip", b"x")), "another archive inside (inner.zip)"),
        (lambda: zipped(("A.stl", b"x"), ("a.STL", b"x")), "two files of the same name (a.stl)"),
        (lambda: patched(GOOD, LIST + 8, "<H", 1), "Protected by a password"),
    ],
)
def test_what_is_only_unhandy_is_a_warning(make: Callable[[], bytes], words: str) -> None:
    assert words in " ".join(warnings_about(check(make())))
    assert bool(words) == bool(list(warnings_about(check(make()))))
