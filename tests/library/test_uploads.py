import hashlib
import io
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import boto3
import pytest
from django.conf import LazySettings
from moto import mock_aws

from accounts.models import User
from groups.models import Creator
from library import services, tasks
from library.archives import zip_of
from library.kinds import FileRefused
from library.models import Blob, Bundle, File, Upload, UploadPart
from library.names import NameRefused
from library.services import uploads
from library.services.downloads import Package
from library.storage import DiskStorage, Part, PartDamaged, StorageDown, storage
from rows.clock import db_now
from tests import factories

State = Upload.State
MIB = 1024 * 1024
Send = Callable[..., Upload]
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "PART_SIZE", 1000)
    monkeypatch.setattr(uploads, "MIB", 1)


def stored_keys(settings: LazySettings) -> set[str]:
    return {path.name for path in Path(settings.MEDIA_ROOT).glob("blobs/*/*")}


def test_a_file_travels_in_parts_and_is_in_the_bundle(
    bundle: Bundle, place: Send, settings: LazySettings
) -> None:
    content = b"solid dragon facet" * 200
    upload = place(bundle, "parts\\body.stl", content)
    assert upload.state == State.DONE
    file = File.objects.get()
    assert (file.path, file.kind, file.version.number) == ("parts/body.stl", "stl", 1)
    assert (file.blob.size, file.blob.sha256) == (3600, hashlib.sha256(content).hexdigest())
    assert b"".join(storage().open(file.blob.storage_key)) == content
    assert upload.file == file
    assert stored_keys(settings) == {file.blob.storage_key}


@pytest.mark.parametrize(
    ("path", "size", "refusal"),
    [
        ("", 10, NameRefused),
        ("a\x00.stl", 10, NameRefused),
        ("../x.stl", 10, NameRefused),
        ("setup.exe", 10, FileRefused),
        ("a.stl", 0, services.SizeRefused),
        ("a.stl", -5, services.SizeRefused),
        ("a.stl", 10**30, services.SizeRefused),
    ],
)
def test_what_cannot_become_a_file_is_refused_before_a_byte_is_sent(
    bundle: Bundle, owner: User, now: datetime, path: str, size: int, refusal: type[Exception]
) -> None:
    with pytest.raises(refusal):
        services.open_upload(bundle, path, size, by=owner, now=now)
    assert not Upload.objects.exists()


def test_an_archived_bundle_takes_no_files(bundle: Bundle, owner: User, now: datetime, send: Send) -> None:
    waiting = send(bundle, "b.txt", b"words")
    services.archive_bundle(bundle, now=now)
    bundle.refresh_from_db()
    with pytest.raises(services.BundleArchived):
        services.open_upload(bundle, "a.stl", 10, by=owner, now=now)
    assert services.verify_upload(waiting.pk, now=now) == State.REFUSED
    assert not File.objects.exists()


def test_very_large_files_get_larger_parts(
    bundle: Bundle, owner: User, now: datetime, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MIB", MIB)
    monkeypatch.setattr(uploads, "PART_SIZE", 16 * MIB)
    settings.UPLOAD_MAX_BYTES = 10**12
    upload = services.open_upload(bundle, "a.bin", 10**12, by=owner, now=now)
    assert upload.part_size % MIB == 0
    assert 9_000 < upload.part_count <= uploads.MAX_PARTS


@pytest.mark.parametrize(
    ("number", "size"), [(0, 1000), (1, 999), (1, 1001), (2, 1000), (3, 1), (2**70, 5), (2, 0)]
)
def test_a_part_that_does_not_fit_is_refused_before_it_is_read(
    bundle: Bundle, owner: User, now: datetime, number: int, size: int
) -> None:
    upload = services.open_upload(bundle, "a.stl", 1005, by=owner, now=now)
    stream = io.BytesIO(b"x" * 2000)
    with pytest.raises(services.WrongPart):
        services.put_part(upload, number, stream, size, now=now)
    assert stream.tell() == 0
    assert not UploadPart.objects.exists()


def test_a_part_sent_twice_is_one_part_the_later(bundle: Bundle, owner: User, now: datetime) -> None:
    upload = services.open_upload(bundle, "a.txt", 4, by=owner, now=now)
    services.put_part(upload, 1, io.BytesIO(b"old!"), 4, now=now)
    services.put_part(upload, 1, io.BytesIO(b"new!"), 4, now=now)
    services.complete_upload(upload, now=now)
    services.verify_upload(upload.pk, now=now)
    assert b"".join(storage().open(Blob.objects.get().storage_key)) == b"new!"


def test_a_part_damaged_on_its_way_is_not_counted(bundle: Bundle, owner: User, now: datetime) -> None:
    upload = services.open_upload(bundle, "a.txt", 4, by=owner, now=now)
    with pytest.raises(PartDamaged):
        services.put_part(upload, 1, io.BytesIO(b"abcd"), 4, sha256="0" * 64, now=now)
    with pytest.raises(services.PartsMissing) as missing:
        services.complete_upload(upload, now=now)
    assert missing.value.numbers == [1]
    upload.refresh_from_db()
    assert upload.state == State.OPEN


def test_completing_says_which_parts_are_missing(bundle: Bundle, owner: User, now: datetime) -> None:
    upload = services.open_upload(bundle, "a.txt", 3500, by=owner, now=now)
    services.put_part(upload, 3, io.BytesIO(b"x" * 1000), 1000, now=now)
    with pytest.raises(services.PartsMissing) as missing:
        services.complete_upload(upload, now=now)
    assert missing.value.numbers == [1, 2, 4]


def test_a_part_another_tab_replaced_has_to_be_sent_again(bundle: Bundle, owner: User, now: datetime) -> None:
    upload = services.open_upload(bundle, "a.txt", 4, by=owner, now=now)
    services.put_part(upload, 1, io.BytesIO(b"ours"), 4, now=now)
    # The other tab's bytes lasted, its row did not.
    storage().put_part(upload.storage_key, upload.storage_upload_id, 1, io.BytesIO(b"them"), 4)
    with pytest.raises(services.PartsMissing):
        services.complete_upload(upload, now=now)
    services.put_part(upload, 1, io.BytesIO(b"ours"), 4, now=now)
    services.complete_upload(upload, now=now)
    assert services.verify_upload(upload.pk, now=now) == State.DONE


def test_completing_twice_and_checking_twice_change_nothing(
    bundle: Bundle, place: Send, now: datetime
) -> None:
    upload = place(bundle, "a.txt", b"words")
    services.complete_upload(upload, now=now)
    assert services.verify_upload(upload.pk, now=now) == State.DONE
    assert (File.objects.count(), Blob.objects.count()) == (1, 1)


def test_content_that_lies_is_refused_and_leaves_nothing(
    bundle: Bundle, place: Send, settings: LazySettings
) -> None:
    upload = place(bundle, "book.pdf", b"<html>not a book")
    assert upload.state == State.REFUSED
    assert "should be a PDF document" in upload.reason
    assert not File.objects.exists()
    assert not Blob.objects.exists()
    assert stored_keys(settings) == set()


def test_bytes_that_shrank_on_the_disk_are_refused(bundle: Bundle, send: Send, now: datetime) -> None:
    upload = send(bundle, "a.txt", b"words")
    storage().complete(
        upload.storage_key,
        upload.storage_upload_id,
        [Part(p.number, p.size, p.etag) for p in upload.parts.all()],
    )
    Upload.objects.filter(pk=upload.pk).update(size=99)
    assert services.verify_upload(upload.pk, now=now) == State.REFUSED
    upload.refresh_from_db()
    assert "did not arrive whole" in upload.reason


def test_the_same_content_is_stored_once_for_a_creator(
    creator: Creator, bundle: Bundle, place: Send, settings: LazySettings
) -> None:
    other = factories.BundleFactory.create(creator=creator, files=0, files__open=True)
    place(bundle, "a.txt", b"words")
    place(bundle, "copy.txt", b"words")
    place(other, "a.txt", b"words")
    blob = Blob.objects.get()
    assert File.objects.filter(blob=blob).count() == 3
    assert stored_keys(settings) == {blob.storage_key}


def test_another_creators_content_is_not_shared(bundle: Bundle, place: Send, settings: LazySettings) -> None:
    place(bundle, "a.txt", b"words")
    place(factories.BundleFactory.create(files=0, files__open=True), "a.txt", b"words")
    assert Blob.objects.count() == len(stored_keys(settings)) == 2


def test_a_file_of_the_same_name_is_replaced(bundle: Bundle, place: Send) -> None:
    place(bundle, "a.txt", b"old")
    place(bundle, "a.txt", b"new")
    assert b"".join(storage().open(File.objects.get().blob.storage_key)) == b"new"


@pytest.mark.parametrize(("first", "second"), [("a.txt", "A.TXT"), ("a", "a/b.txt"), ("a/b.txt", "A")])
def test_names_one_folder_cannot_hold_are_refused_at_the_start_and_at_the_end(
    bundle: Bundle, owner: User, place: Send, send: Send, now: datetime, first: str, second: str
) -> None:
    late = send(bundle, second, b"words")
    place(bundle, first, b"words")
    with pytest.raises(services.NameTaken):
        services.open_upload(bundle, second, 5, by=owner, now=now)
    assert services.verify_upload(late.pk, now=now) == State.REFUSED
    assert File.objects.get().path == first


def test_cancelling_takes_the_bytes_away_and_twice_is_harmless(
    bundle: Bundle, owner: User, now: datetime, settings: LazySettings
) -> None:
    upload = services.open_upload(bundle, "a.txt", 4, by=owner, now=now)
    services.put_part(upload, 1, io.BytesIO(b"abcd"), 4, now=now)
    stale = Upload.objects.get(pk=upload.pk)
    services.cancel_upload(upload, now=now)
    upload.refresh_from_db()
    services.cancel_upload(upload, now=now)
    assert list((Path(settings.MEDIA_ROOT) / "uploads").iterdir()) == []
    for upload_seen in (upload, stale):
        with pytest.raises(services.UploadOver):
            services.put_part(upload_seen, 1, io.BytesIO(b"abcd"), 4, now=now)
        with pytest.raises(services.UploadOver):
            services.complete_upload(upload_seen, now=now)


def test_a_part_that_arrives_while_it_is_cancelled_leaves_no_row(
    bundle: Bundle, owner: User, now: datetime
) -> None:
    upload = services.open_upload(bundle, "a.txt", 4, by=owner, now=now)

    class CancelledMeanwhile(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            Upload.objects.filter(pk=upload.pk).update(state=State.CANCELLED)
            return super().read(size)

    with pytest.raises(services.UploadOver):
        services.put_part(upload, 1, CancelledMeanwhile(b"abcd"), 4, now=now)
    assert not UploadPart.objects.exists()


def test_what_is_checked_already_cannot_be_cancelled(bundle: Bundle, place: Send, now: datetime) -> None:
    upload = place(bundle, "a.txt", b"words")
    with pytest.raises(services.UploadOver):
        services.cancel_upload(upload, now=now)
    assert File.objects.exists()


# --- workers that are killed, stalled or late -----------------------------------------------------


def waiting_for_a_check() -> list[Upload]:
    return list(Upload.objects.to_check().ready(db_now()))


def test_a_killed_workers_check_is_taken_over_from_the_start(
    bundle: Bundle, send: Send, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = send(bundle, "a.txt", b"words")

    def killed(*args: object, **kwargs: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(uploads, "_place", killed)
        with pytest.raises(KeyboardInterrupt):
            services.verify_upload(upload.pk, now=now)
    assert services.verify_upload(upload.pk, now=now) == State.VERIFYING, "its lease still runs"
    assert not waiting_for_a_check()
    Upload.objects.update(lease_until=now - timedelta(days=400))
    assert waiting_for_a_check() == [upload]
    assert services.verify_upload(upload.pk, now=now) == State.DONE
    assert File.objects.count() == 1


@pytest.mark.parametrize("content", [b"words", b"MZ\0 a program"])
def test_a_worker_that_lost_its_lease_changes_nothing(
    bundle: Bundle, send: Send, now: datetime, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    upload = send(bundle, "a.txt", content)
    examine = uploads.identify

    def stalled(*args: object) -> object:
        Upload.objects.update(epoch=99)
        return examine(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(uploads, "identify", stalled)
    assert services.verify_upload(upload.pk, now=now) == State.VERIFYING
    upload.refresh_from_db()
    assert (upload.state, upload.reason) == (State.VERIFYING, "")
    assert not File.objects.exists()
    assert not Blob.objects.exists()


def test_a_long_check_keeps_its_lease_and_stops_when_it_is_lost(
    bundle: Bundle, send: Send, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = send(bundle, "a.txt", b"words")
    monkeypatch.setattr(uploads, "VERIFY_LEASE_SECONDS", 0)
    assert services.verify_upload(upload.pk, now=now) == State.DONE
    other = send(bundle, "b.txt", b"other words")
    opened = DiskStorage.open

    def overtaken(self: DiskStorage, *args: object) -> object:
        Upload.objects.filter(pk=other.pk).update(epoch=99)
        return opened(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(DiskStorage, "open", overtaken)
    assert services.verify_upload(other.pk, now=now) == State.VERIFYING


def test_a_store_that_is_down_only_delays_the_check(
    bundle: Bundle, send: Send, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = send(bundle, "a.txt", b"words")

    def down(*args: object) -> None:
        raise StorageDown

    with monkeypatch.context() as patch:
        patch.setattr(DiskStorage, "complete", down)
        assert services.verify_upload(upload.pk, now=now) == State.VERIFYING
    assert not waiting_for_a_check(), "not at once again: a minute later"
    Upload.objects.update(not_before=db_now() - timedelta(seconds=1))
    assert waiting_for_a_check() == [upload]
    assert services.verify_upload(upload.pk, now=now) == State.DONE


def test_bytes_that_cannot_be_dropped_now_are_dropped_later(
    bundle: Bundle, place: Send, now: datetime, monkeypatch: pytest.MonkeyPatch, settings: LazySettings
) -> None:
    def down(*args: object) -> None:
        raise StorageDown

    with monkeypatch.context() as patch:
        patch.setattr(DiskStorage, "abort", down)
        upload = place(bundle, "a.pdf", b"no pdf")
    assert upload.state == State.REFUSED
    assert stored_keys(settings) == {upload.storage_key}
    uploads.forget_abandoned_uploads(now=now + timedelta(hours=25))
    assert stored_keys(settings) == set()


# --- the sweep ------------------------------------------------------------------------------------


def test_abandoned_uploads_are_cancelled_after_a_day_and_forgotten_after_another(
    bundle: Bundle, owner: User, place: Send, now: datetime, settings: LazySettings
) -> None:
    place(bundle, "kept.txt", b"words")
    upload = services.open_upload(bundle, "a.txt", 4, by=owner, now=now)
    services.put_part(upload, 1, io.BytesIO(b"abcd"), 4, now=now)
    assert uploads.forget_abandoned_uploads(now=now + timedelta(hours=23)) == 0
    assert uploads.forget_abandoned_uploads(now=now + timedelta(hours=25)) == 2
    assert list(Upload.objects.values_list("state", flat=True)) == [State.CANCELLED]
    assert uploads.forget_abandoned_uploads(now=now + timedelta(hours=50)) == 1
    assert uploads.forget_abandoned_uploads(now=now + timedelta(hours=51)) == 0
    assert stored_keys(settings) == {Blob.objects.get().storage_key}


def test_an_upload_completed_while_it_is_swept_is_left_alone(
    bundle: Bundle, owner: User, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.open_upload(bundle, "a.txt", 4, by=owner, now=now)

    def completed(*args: object, **kwargs: object) -> None:
        raise services.UploadOver

    monkeypatch.setattr(uploads, "cancel_upload", completed)
    assert uploads.forget_abandoned_uploads(now=now + timedelta(hours=25)) == 1
    assert Upload.objects.get().state == State.OPEN


def test_bytes_no_version_names_are_deleted_after_a_day(
    bundle: Bundle, place: Send, now: datetime, settings: LazySettings
) -> None:
    place(bundle, "a.txt", b"old")
    place(bundle, "a.txt", b"new")
    assert uploads.forget_orphaned_blobs(now=now + timedelta(hours=23)) == 0
    assert uploads.forget_orphaned_blobs(now=now + timedelta(hours=25)) == 1
    assert uploads.forget_orphaned_blobs(now=now + timedelta(hours=25)) == 0
    assert stored_keys(settings) == {File.objects.get().blob.storage_key}


def test_bytes_named_again_meanwhile_are_kept(
    bundle: Bundle, place: Send, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(bundle, "a.txt", b"old")
    place(bundle, "a.txt", b"new")
    atomic = uploads.transaction.atomic

    def named_again() -> object:
        monkeypatch.undo()
        place(bundle, "b.txt", b"old")
        return atomic()

    monkeypatch.setattr(uploads.transaction, "atomic", named_again)
    assert uploads.forget_orphaned_blobs(now=now + timedelta(hours=25)) == 0
    assert Blob.objects.count() == 2


def test_the_sweep_checks_what_waits_and_one_bad_file_stops_nothing(
    bundle: Bundle, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = send(bundle, "a.txt", b"words"), send(bundle, "b.txt", b"more")
    identify = uploads.identify

    def trips(path: str, *args: object) -> object:
        if path == first.path:
            raise ZeroDivisionError
        return identify(path, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(uploads, "identify", trips)
    tasks.sweep()
    second.refresh_from_db()
    assert second.state == State.DONE


def test_ringing_the_worker_checks_the_upload_and_no_broker_is_no_fault(
    bundle: Bundle, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = send(bundle, "a.txt", b"words")
    tasks.verify(upload.pk)
    upload.refresh_from_db()
    assert upload.state == State.DONE

    def away(*args: object) -> None:
        raise OSError

    monkeypatch.setattr(tasks.verify, "delay", away)
    tasks.wake(upload)


@mock_aws
def test_the_whole_way_through_a_bucket(
    bundle: Bundle, place: Send, now: datetime, settings: LazySettings
) -> None:
    settings.S3_BUCKET, settings.S3_ACCESS_KEY, settings.S3_SECRET_KEY = "whole-way", "k", "s"
    client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s")
    client.create_bucket(Bucket="whole-way")
    assert place(bundle, "a.zip", b"no ZIP at all").state == State.REFUSED
    assert place(bundle, "a.txt", b"words").state == State.DONE
    assert place(bundle, "b.txt", b"words").state == State.DONE
    blob = Blob.objects.get()
    assert [found["Key"] for found in client.list_objects_v2(Bucket="whole-way")["Contents"]] == [
        f"blobs/{blob.storage_key}"
    ]
    archive = zip_of(Package("Dragon", [services.seal_version(bundle, now=now)]))
    assert b"".join(archive.stretch()).count(b"words") == 2
