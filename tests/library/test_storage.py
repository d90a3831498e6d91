"""One set of promises, held against the disk and against S3 (moto)."""

import hashlib
import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from library.storage import (
    DiskStorage,
    Part,
    PartCutShort,
    PartDamaged,
    PartOvertaken,
    PartsDiffer,
    S3Storage,
    Storage,
    StorageDown,
    UploadGone,
)

MIB = 1024 * 1024
PART = 5 * MIB  # S3's least for every part but the last


@pytest.fixture(params=["disk", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    if request.param == "disk":
        yield DiskStorage(tmp_path)
        return
    with mock_aws():
        yield s3_store()


@pytest.fixture
def disk(tmp_path: Path) -> DiskStorage:
    return DiskStorage(tmp_path)


def s3_store() -> S3Storage:
    boto3.client(
        "s3", region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s"
    ).create_bucket(Bucket="files")
    return S3Storage("files", region="us-east-1", access_key="k", secret_key="s")


def noise(size: int, seed: int = 1) -> bytes:
    return hashlib.shake_128(bytes([seed])).digest(size)


def put(store: Storage, key: str, upload_id: str, number: int, data: bytes) -> Part:
    return Part(number, len(data), store.put_part(key, upload_id, number, io.BytesIO(data), len(data)))


def stored(store: Storage, key: str, data: bytes) -> None:
    upload_id = store.create(key, part_size=PART)
    parts = [
        put(store, key, upload_id, 1 + at // PART, data[at : at + PART]) for at in range(0, len(data), PART)
    ]
    store.complete(key, upload_id, parts)


def test_parts_in_any_order_become_the_file(store: Storage) -> None:
    data = noise(2 * PART + 1000)
    upload_id = store.create("k1", part_size=PART)
    third = put(store, "k1", upload_id, 3, data[2 * PART :])
    first = put(store, "k1", upload_id, 1, data[:PART])
    second = put(store, "k1", upload_id, 2, data[PART : 2 * PART])
    assert store.list_parts("k1", upload_id) == [first, second, third]
    store.complete("k1", upload_id, [third, first, second])
    assert store.size("k1") == len(data)
    assert b"".join(store.open("k1")) == data


@pytest.mark.parametrize(
    ("start", "end"), [(0, 1), (5, 10), (999_990, None), (0, 2_000_000), (7, 7), (524_000, 525_000)]
)
def test_any_stretch_of_a_file_can_be_read(store: Storage, start: int, end: int | None) -> None:
    data = noise(1_000_000)
    stored(store, "k1", data)
    assert b"".join(store.open("k1", start, end)) == data[start:end]


def test_a_part_sent_again_replaces_the_first(store: Storage) -> None:
    upload_id = store.create("k1", part_size=PART)
    old = put(store, "k1", upload_id, 1, noise(1000, 1))
    new = put(store, "k1", upload_id, 1, noise(1000, 2))
    assert store.list_parts("k1", upload_id) == [new]
    with pytest.raises(PartsDiffer):
        store.complete("k1", upload_id, [old])
    store.complete("k1", upload_id, [new])
    assert b"".join(store.open("k1")) == noise(1000, 2)


def test_completing_twice_changes_nothing(store: Storage) -> None:
    upload_id = store.create("k1", part_size=PART)
    parts = [put(store, "k1", upload_id, 1, b"abc")]
    store.complete("k1", upload_id, parts)
    store.complete("k1", upload_id, parts)
    assert b"".join(store.open("k1")) == b"abc"


def test_a_part_that_is_missing_stops_the_completing(store: Storage) -> None:
    upload_id = store.create("k1", part_size=PART)
    part = put(store, "k1", upload_id, 1, noise(PART))
    with pytest.raises(PartsDiffer):
        store.complete("k1", upload_id, [part, Part(2, 10, "0" * 32)])
    with pytest.raises(FileNotFoundError):
        store.size("k1")


def test_an_upload_without_parts_cannot_be_completed(store: Storage) -> None:
    with pytest.raises(PartsDiffer):
        store.complete("k1", store.create("k1", part_size=PART), [])


def test_an_upload_whose_id_was_never_learnt_is_forgotten_by_its_key(store: Storage) -> None:
    begun, other = store.create("k1", part_size=PART), store.create("k2", part_size=PART)
    put(store, "k1", begun, 1, b"abc")
    for _twice in range(2):
        store.abort("k1", "")
    with pytest.raises(UploadGone):
        store.list_parts("k1", begun)
    assert store.list_parts("k2", other) == []


def test_a_broken_connection_leaves_no_part(store: Storage) -> None:
    upload_id = store.create("k1", part_size=PART)
    with pytest.raises(PartCutShort):
        store.put_part("k1", upload_id, 1, io.BytesIO(b"half"), 8)
    assert store.list_parts("k1", upload_id) == []


def test_a_stream_that_raises_counts_as_a_broken_connection(store: Storage) -> None:
    class Gone:
        def read(self, size: int, /) -> bytes:
            raise OSError("the client went away")

    upload_id = store.create("k1", part_size=PART)
    with pytest.raises(PartCutShort):
        store.put_part("k1", upload_id, 1, Gone(), 8)


def test_nothing_past_the_announced_size_is_read(store: Storage) -> None:
    stream = io.BytesIO(b"12345678 and more")
    upload_id = store.create("k1", part_size=PART)
    store.put_part("k1", upload_id, 1, stream, 8)
    assert stream.tell() == 8


def test_damaged_bytes_are_refused_when_their_hash_was_announced(store: Storage) -> None:
    upload_id = store.create("k1", part_size=PART)
    wrong = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(PartDamaged):
        store.put_part("k1", upload_id, 1, io.BytesIO(b"bytes"), 5, sha256=wrong)
    assert store.list_parts("k1", upload_id) == []
    store.put_part("k1", upload_id, 1, io.BytesIO(b"bytes"), 5, sha256=hashlib.sha256(b"bytes").hexdigest())


def test_an_aborted_upload_is_gone_and_aborting_again_is_harmless(disk: DiskStorage) -> None:
    upload_id = disk.create("k1", part_size=PART)
    part = put(disk, "k1", upload_id, 1, b"abc")
    disk.abort("k1", upload_id)
    disk.abort("k1", upload_id)
    with pytest.raises(UploadGone):
        put(disk, "k1", upload_id, 1, b"abc")
    with pytest.raises(UploadGone):
        disk.list_parts("k1", upload_id)
    with pytest.raises(UploadGone):
        disk.complete("k1", upload_id, [part])


def test_a_part_after_completing_is_refused_and_changes_nothing(disk: DiskStorage) -> None:
    upload_id = disk.create("k1", part_size=PART)
    disk.complete("k1", upload_id, [put(disk, "k1", upload_id, 1, b"abc")])
    with pytest.raises(UploadGone):
        put(disk, "k1", upload_id, 1, b"xyz")
    assert b"".join(disk.open("k1")) == b"abc"


def test_deleting_is_final_and_harmless_twice(store: Storage) -> None:
    stored(store, "k1", b"abc")
    store.delete("k1")
    store.delete("k1")
    with pytest.raises(FileNotFoundError):
        store.open("k1")
    with pytest.raises(FileNotFoundError):
        store.size("k1")


# --- the disk alone -------------------------------------------------------------------------------


class Slow:
    """A sender that stops after its first bytes until it is let go."""

    def __init__(self, data: bytes) -> None:
        self.data, self.waiting, self.go = io.BytesIO(data), threading.Event(), threading.Event()

    def read(self, size: int, /) -> bytes:
        chunk = self.data.read(min(size, 1000))
        if self.data.tell() > 1000:
            self.waiting.set()
            assert self.go.wait(10)
        return chunk


def slowly(store: Storage, upload_id: str, data: bytes) -> tuple[Slow, threading.Thread, list[Exception]]:
    sender, raised = Slow(data), []

    def send() -> None:
        try:
            store.put_part("k1", upload_id, 1, sender, len(data))
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    assert sender.waiting.wait(10)
    return sender, thread, raised


def test_two_senders_of_one_part_never_mix(disk: DiskStorage) -> None:
    upload_id = disk.create("k1", part_size=PART)
    sender, thread, raised = slowly(disk, upload_id, b"o" * 4000)
    part = put(disk, "k1", upload_id, 1, b"n" * 4000)
    sender.go.set()
    thread.join()
    assert isinstance(raised[0], PartOvertaken)
    disk.complete("k1", upload_id, [part])
    assert b"".join(disk.open("k1")) == b"n" * 4000


def test_a_part_still_arriving_stops_the_completing(disk: DiskStorage) -> None:
    upload_id = disk.create("k1", part_size=PART)
    part = put(disk, "k1", upload_id, 1, b"n" * 4000)
    sender, thread, raised = slowly(disk, upload_id, b"o" * 4000)
    with pytest.raises(PartsDiffer):
        disk.complete("k1", upload_id, [part])
    sender.go.set()
    thread.join()
    assert raised == []


def test_a_straggler_cannot_write_into_a_finished_file(disk: DiskStorage) -> None:
    upload_id = disk.create("k1", part_size=PART)
    sender, thread, raised = slowly(disk, upload_id, b"o" * 4000)
    disk.complete("k1", upload_id, [put(disk, "k1", upload_id, 1, b"n" * 4000)])
    sender.go.set()
    thread.join()
    assert isinstance(raised[0], UploadGone)
    assert b"".join(disk.open("k1")) == b"n" * 4000


def test_a_middle_part_of_another_size_is_refused(disk: DiskStorage) -> None:
    upload_id = disk.create("k1", part_size=PART)
    parts = [put(disk, "k1", upload_id, 1, b"short"), put(disk, "k1", upload_id, 2, b"last")]
    with pytest.raises(PartsDiffer):
        disk.complete("k1", upload_id, parts)


def test_numbers_with_a_hole_are_refused(disk: DiskStorage) -> None:
    upload_id = disk.create("k1", part_size=PART)
    with pytest.raises(PartsDiffer):
        disk.complete("k1", upload_id, [put(disk, "k1", upload_id, 2, b"last")])


def test_completing_leaves_no_folder_behind_even_if_it_was_interrupted(disk: DiskStorage) -> None:
    upload_id = disk.create("k1", part_size=PART)
    part = put(disk, "k1", upload_id, 1, b"abc")
    (disk.root / "blobs" / "k1").mkdir(parents=True)
    (disk.root / "blobs" / "k1" / "k1").write_bytes(b"abc")
    disk.complete("k1", upload_id, [part])
    assert list((disk.root / "uploads").iterdir()) == []


def test_a_full_disk_is_said_so(disk: DiskStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> int:
        raise OSError(28, "No space left on device")

    upload_id = disk.create("k1", part_size=PART)
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StorageDown):
        put(disk, "k1", upload_id, 1, b"abc")
    assert disk.list_parts("k1", upload_id) == []


def test_any_other_fault_of_the_disk_is_not_hidden(
    disk: DiskStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(*args: object) -> int:
        raise PermissionError(13, "Permission denied")

    upload_id = disk.create("k1", part_size=PART)
    monkeypatch.setattr(os, "pwrite", odd)
    with pytest.raises(PermissionError):
        put(disk, "k1", upload_id, 1, b"abc")


def test_a_write_that_comes_short_is_carried_on(disk: DiskStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: whole(fd, bytes(data)[:1], at))
    upload_id = disk.create("k1", part_size=PART)
    disk.complete("k1", upload_id, [put(disk, "k1", upload_id, 1, b"abcdef")])
    assert b"".join(disk.open("k1")) == b"abcdef"


def test_the_disk_signs_no_links(disk: DiskStorage) -> None:
    assert disk.presigned_download("k1", filename="a.stl", content_type="model/stl") is None


# --- S3 alone: what moto does not check -----------------------------------------------------------


@pytest.fixture
def requests() -> list[Any]:
    return []


@pytest.fixture
def bucket(requests: list[Any]) -> Iterator[S3Storage]:
    with mock_aws():
        store = s3_store()
        store.client.meta.events.register_first(
            "before-send.s3.*", lambda request, **_: requests.append(request)
        )
        yield store


def test_an_upload_the_bucket_forgot_is_gone(bucket: S3Storage) -> None:
    # Stubbed: moto answers these with errors of its own.
    with Stubber(bucket.client) as stub:
        stub.add_client_error("upload_part", "NoSuchUpload", http_status_code=404)
        with pytest.raises(UploadGone):
            put(bucket, "k1", "forgotten", 1, b"xyz")
        stub.add_client_error("list_parts", "NoSuchUpload", http_status_code=404)
        with pytest.raises(UploadGone):
            bucket.list_parts("k1", "forgotten")
        stub.add_client_error("complete_multipart_upload", "NoSuchUpload", http_status_code=404)
        stub.add_client_error("head_object", "404", http_status_code=404)
        with pytest.raises(UploadGone):
            bucket.complete("k1", "forgotten", [Part(1, 3, "e")])
        stub.add_client_error("abort_multipart_upload", "NoSuchUpload", http_status_code=404)
        bucket.abort("k1", "forgotten")


def test_an_upload_completed_by_a_worker_that_was_killed_is_complete(bucket: S3Storage) -> None:
    with Stubber(bucket.client) as stub:
        stub.add_client_error("complete_multipart_upload", "NoSuchUpload", http_status_code=404)
        stub.add_response("head_object", {"ContentLength": 3})
        bucket.complete("k1", "forgotten", [Part(1, 3, "e")])


def test_aborting_at_the_bucket_removes_the_parts(bucket: S3Storage) -> None:
    upload_id = bucket.create("k1", part_size=PART)
    put(bucket, "k1", upload_id, 1, b"abc")
    bucket.abort("k1", upload_id)
    assert bucket.client.list_multipart_uploads(Bucket="files").get("Uploads", []) == []


def test_no_request_carries_the_checksum_headers_other_stores_refuse(
    bucket: S3Storage, requests: list[Any]
) -> None:
    stored(bucket, "k1", b"abc")
    list(bucket.open("k1"))
    names = {name.lower() for request in requests for name in request.headers}
    assert requests
    assert not {name for name in names if "checksum" in name or name == "x-amz-trailer"}


def test_a_part_is_sent_with_its_number_and_length(bucket: S3Storage, requests: list[Any]) -> None:
    upload_id = bucket.create("k1", part_size=PART)
    requests.clear()
    put(bucket, "k1", upload_id, 7, b"abc")
    [request] = requests
    query = parse_qs(urlsplit(request.url).query)
    assert (request.method, urlsplit(request.url).path) == ("PUT", "/blobs/k1")
    assert (query["partNumber"], query["uploadId"]) == (["7"], [upload_id])
    assert request.headers["Content-Length"] == b"3" or request.headers["Content-Length"] == "3"


def test_reading_a_stretch_asks_for_just_that_stretch(bucket: S3Storage, requests: list[Any]) -> None:
    stored(bucket, "k1", b"0123456789")
    requests.clear()
    assert b"".join(bucket.open("k1", 2, 5)) == b"234"
    assert requests[0].headers["Range"] in (b"bytes=2-4", "bytes=2-4")


def test_a_download_link_is_short_lived_signed_and_forces_the_name(bucket: S3Storage) -> None:
    url = bucket.presigned_download("k1", filename="Björn.stl", content_type="model/stl")
    assert url is not None
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    assert query["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    assert int(query["X-Amz-Expires"]) <= 300
    assert query["response-content-type"] == "model/stl"
    assert (
        query["response-content-disposition"]
        == "attachment; filename=\"Bjorn.stl\"; filename*=UTF-8''Bj%C3%B6rn.stl"
    )


def test_another_endpoint_is_spoken_to_with_the_bucket_in_the_path() -> None:
    store = S3Storage("files", endpoint="http://127.0.0.1:9000", region="eu", access_key="k", secret_key="s")
    url = store.presigned_download("k1", filename="a.stl", content_type="model/stl")
    assert str(url).startswith("http://127.0.0.1:9000/files/blobs/k1?")


def test_a_bucket_that_is_not_there_is_a_store_that_is_down() -> None:
    with mock_aws():
        store = S3Storage("nowhere", region="us-east-1", access_key="k", secret_key="s")
        with pytest.raises(StorageDown):
            store.create("k1", part_size=PART)


def test_an_endpoint_that_does_not_answer_is_a_store_that_is_down() -> None:
    store = S3Storage("files", endpoint="http://127.0.0.1:9", region="eu", access_key="k", secret_key="s")
    with pytest.raises(StorageDown):
        store.size("k1")
