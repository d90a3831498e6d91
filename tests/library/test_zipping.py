"""The ZIP that is made while it is sent: a function of what is in it, from any byte on."""

import io
import shutil
import subprocess
import zipfile
import zlib
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from hypothesis import HealthCheck, given
from hypothesis import settings as tries
from hypothesis import strategies as st
from moto import mock_aws

from library.storage import DiskStorage, Part, storage
from library.zipping import BlobBroken, Entry, Zip, entry_of
from library.zips import read_zip
from tests.library.test_storage import s3_store

CONTENTS = {"a/Ünder.stl": bytes(range(256)) * 9, "empty.txt": b"", "b.bin": b"\0" * 700, "月.stl": b"solid"}


def stored(key: str, content: bytes) -> None:
    store = storage()
    upload = store.create(key, part_size=max(1, len(content)))
    etag = store.put_part(key, upload, 1, io.BytesIO(content), len(content))
    store.complete(key, upload, [Part(1, len(content), etag)])


def kept(name: str, key: str, content: bytes) -> Entry:
    whole = entry_of(name, content)
    return Entry(name, whole.size, whole.crc32, whole.sha256, key=key)


@pytest.fixture
def archive() -> Zip:
    """Two files that are made for it, four from the storage."""
    entries = [entry_of("MANIFEST.sha256", b"sums"), entry_of("nothing", b"")]
    for number, (name, content) in enumerate(CONTENTS.items()):
        stored(f"key-{number}", content)
        entries.append(kept(name, f"key-{number}", content))
    return Zip(entries)


def whole(archive: Zip) -> bytes:
    return b"".join(archive.stretch())


def test_every_reader_finds_every_file_in_it(archive: Zip, tmp_path: Path) -> None:
    data = whole(archive)
    assert len(archive) == len(data)
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        assert opened.testzip() is None
        assert {name: opened.read(name) for name in CONTENTS} == CONTENTS
        assert {info.date_time for info in opened.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    names = [
        entry.name
        for entry in read_zip(lambda start, length: data[start : start + length], len(data)).entries
    ]
    assert names == ["MANIFEST.sha256", "nothing", *CONTENTS]
    (tmp_path / "all.zip").write_bytes(data)
    for tool in (["unzip", "-tqq"], ["7z", "t", "-bso0"], ["bsdtar", "-tf"]):
        if shutil.which(tool[0]):
            done = subprocess.run([*tool, tmp_path / "all.zip"], capture_output=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr


@tries(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cuts=st.lists(st.integers(0, 5_000), max_size=6))
def test_any_stretches_put_together_are_the_whole(archive: Zip, cuts: list[int]) -> None:
    ends = [0, *sorted(cut for cut in cuts if cut <= len(archive)), len(archive)]
    joined = b"".join(b"".join(archive.stretch(start, end)) for start, end in pairwise(ends))
    assert joined == whole(archive)


def test_no_stretch_of_it_holds_more_than_was_asked(archive: Zip) -> None:
    data = whole(archive)
    for start in range(0, len(data), 7):
        assert b"".join(archive.stretch(start, start + 11)) == data[start : start + 11]
    assert b"".join(archive.stretch(len(data) - 3, len(data) + 99)) == data[-3:]


def test_what_lies_before_the_stretch_is_not_read(archive: Zip, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[str, int, int | None]] = []
    opened = DiskStorage.open

    def noting(self: DiskStorage, key: str, start: int = 0, end: int | None = None) -> Any:
        read.append((key, start, end))
        return opened(self, key, start, end)

    data = whole(archive)
    monkeypatch.setattr(DiskStorage, "open", noting)
    at = data.index(b"\0" * 700)
    b"".join(archive.stretch(at + 600))
    assert read == [("key-2", 600, 700), ("key-3", 0, 5)]
    read.clear()
    b"".join(archive.stretch(len(data) - 22))
    assert read == []


def test_the_same_content_has_the_same_name_and_other_content_another(archive: Zip) -> None:
    entries = [entry_of("a", b"x"), kept("b", "key-1", b"yy")]
    named = Zip(entries).etag
    assert Zip(entries).etag == named
    assert Zip([entries[0], kept("b", "another-key", b"yy")]).etag == named
    for other in (
        [entries[1], entries[0]],
        [entry_of("A", b"x"), entries[1]],
        [entry_of("a", b"z"), entries[1]],
        [entries[0], kept("b", "key-1", b"zz")],
        entries[:1],
    ):
        assert Zip(other).etag != named


def test_a_stored_file_that_lost_its_end_ends_the_stretch(archive: Zip) -> None:
    store = storage()
    assert isinstance(store, DiskStorage)
    (store.root / store.accelerated("key-0")).write_bytes(b"short")
    with pytest.raises(BlobBroken):
        b"".join(archive.stretch(0, 200))


@mock_aws
def test_from_a_bucket_only_the_stretch_is_fetched(settings: LazySettings) -> None:
    s3_store()
    settings.S3_BUCKET, settings.S3_ACCESS_KEY, settings.S3_SECRET_KEY = "files", "k", "s"
    stored("key-s3", b"abcdefgh" * 100)
    archive = Zip([kept("a.bin", "key-s3", b"abcdefgh" * 100)])
    data = whole(archive)
    at = data.index(b"abcdefgh")
    assert b"".join(archive.stretch(at + 796)) == b"efgh" + data[at + 800 :]
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        assert opened.testzip() is None


# --- beyond what the short fields hold ------------------------------------------------------------


class Sought(io.RawIOBase):
    """The ZIP as a file one can seek in, so that nobody need hold gigabytes."""

    def __init__(self, archive: Zip) -> None:
        self.archive, self.at = archive, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self.at = offset + (0, self.at, len(self.archive))[whence]
        return self.at

    def tell(self) -> int:
        return self.at

    def read(self, size: int = -1, /) -> bytes:
        end = len(self.archive) if size < 0 else self.at + size
        data = b"".join(self.archive.stretch(self.at, end))
        self.at += len(data)
        return data


def large(key: str, size: int) -> Entry:
    """A sparse file: as long as it says, and nothing on the disk."""
    stored(key, b"x")
    store = storage()
    assert isinstance(store, DiskStorage)
    with open(store.root / store.accelerated(key), "r+b") as file:
        file.truncate(size)
    return Entry(f"{key}.bin", size, 0, "0" * 64, key=key)


@pytest.mark.parametrize("size", [2**32 - 2, 2**32 - 1, 2**32, 5 * 2**30])
def test_files_beyond_four_gigabytes_and_what_lies_behind_them_are_found(size: int) -> None:
    archive = Zip([large("large", size), entry_of("behind.txt", b"after it"), large("larger", size)])
    with zipfile.ZipFile(Sought(archive)) as opened:
        assert [info.file_size for info in opened.infolist()] == [size, 8, size]
        assert opened.read("behind.txt") == b"after it"
        with opened.open("larger.bin") as file:
            assert file.read(1) == b"x"
    file_ = Sought(archive)

    def read(start: int, length: int) -> bytes:
        file_.seek(start)
        return file_.read(length)

    contents = read_zip(read, len(archive))
    assert (contents.names, contents.wrapped) == (["large.bin", "behind.txt", "larger.bin"], False)


def test_more_files_than_the_short_count_holds_are_all_there() -> None:
    data = whole(Zip(entry_of(f"{number}", b"") for number in range(65_536)))
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        assert len(opened.namelist()) == 65_536


@pytest.mark.django_db
def test_the_sums_of_what_was_uploaded_are_known_before_it_is_downloaded(
    bundle: Any, place: Any, now: datetime
) -> None:
    content = b"solid dragon facet" * 300_000
    upload = place(bundle, "body.stl", content)
    assert upload.file.blob.crc32 == zlib.crc32(content)
