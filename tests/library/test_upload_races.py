"""Uploads at the same moment, with real threads on PostgreSQL."""

import io
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection

from accounts.models import User
from library import services
from library.models import Blob, Bundle, File, Upload
from library.services import uploads
from library.storage import storage

State = Upload.State
Send = Callable[..., Upload]
pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]


def stored_keys(settings: LazySettings) -> set[str]:
    return {path.name for path in Path(settings.MEDIA_ROOT).glob("blobs/*/*")}


def in_threads(*jobs: Callable[[], object]) -> list[object]:
    results: list[object] = [None] * len(jobs)
    ready = threading.Barrier(len(jobs))

    def run(index: int, job: Callable[[], object]) -> None:
        try:
            ready.wait(10)
            results[index] = job()
        except Exception as error:
            results[index] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


def test_the_same_content_twice_at_once_is_one_blob(
    bundle: Bundle, send: Send, now: datetime, settings: LazySettings
) -> None:
    waiting = [send(bundle, f"copy-{n}.txt", b"the very same words") for n in range(8)]
    jobs = [lambda pk=upload.pk: services.verify_upload(pk, now=now) for upload in waiting]
    assert in_threads(*jobs) == [State.DONE] * 8
    assert stored_keys(settings) == {Blob.objects.get().storage_key}
    assert File.objects.count() == 8


def test_two_workers_on_one_upload_place_it_once(bundle: Bundle, send: Send, now: datetime) -> None:
    upload = send(bundle, "a.txt", b"words")
    states = in_threads(*[lambda: services.verify_upload(upload.pk, now=now)] * 6)
    assert State.DONE in states
    assert set(states) <= {State.DONE, State.VERIFYING}
    assert (File.objects.count(), Blob.objects.count()) == (1, 1)


def test_the_same_part_from_two_tabs_at_once_is_whole(bundle: Bundle, owner: User, now: datetime) -> None:
    upload = services.open_upload(bundle, "a.txt", 900, by=owner, now=now)
    jobs = [
        lambda letter=letter: services.put_part(upload, 1, io.BytesIO(letter * 900), 900, now=now)
        for letter in (b"a", b"b", b"c", b"d")
    ]
    in_threads(*jobs)
    try:
        services.complete_upload(upload, now=now)
    except services.PartsMissing:
        services.put_part(upload, 1, io.BytesIO(b"e" * 900), 900, now=now)
        services.complete_upload(upload, now=now)
    assert services.verify_upload(upload.pk, now=now) == State.DONE
    content = b"".join(storage().open(Blob.objects.get().storage_key))
    assert len(content) == 900
    assert len(set(content)) == 1


def test_completing_and_cancelling_at_once_end_in_one_of_the_two(
    bundle: Bundle, owner: User, now: datetime
) -> None:
    for number in range(5):
        upload = services.open_upload(bundle, f"{number}.txt", 4, by=owner, now=now)
        services.put_part(upload, 1, io.BytesIO(b"abcd"), 4, now=now)
        in_threads(
            lambda upload=upload: services.complete_upload(upload, now=now),
            lambda upload=upload: services.cancel_upload(upload, now=now),
        )
        state = services.verify_upload(upload.pk, now=now)
        assert state in {State.DONE, State.CANCELLED}
        assert bundle.versions.get().files.filter(path=f"{number}.txt").exists() == (state == State.DONE)


def test_sealing_waits_for_a_file_that_is_being_placed(bundle: Bundle, send: Send, now: datetime) -> None:
    for number in range(5):
        upload = send(bundle, f"{number}.txt", f"words {number}".encode())
        sealed, state = in_threads(
            lambda: services.seal_version(bundle, now=now),
            lambda upload=upload: services.verify_upload(upload.pk, now=now),
        )
        assert state == State.DONE
        if not isinstance(sealed, services.StillUploading):
            assert sealed.files.filter(path=upload.path).exists()  # type: ignore[attr-defined]


def test_files_placed_at_once_after_sealing_open_one_next_version(
    bundle: Bundle, place: Send, send: Send, now: datetime
) -> None:
    place(bundle, "first.txt", b"words")
    services.seal_version(bundle, now=now)
    waiting = [send(bundle, f"{n}.txt", f"more {n}".encode()) for n in range(8)]
    jobs = [lambda pk=upload.pk: services.verify_upload(pk, now=now) for upload in waiting]
    assert in_threads(*jobs) == [State.DONE] * 8
    assert list(bundle.versions.values_list("number", flat=True)) == [2, 1]
    assert bundle.versions.get(number=2).files.count() == 9


def test_a_file_removed_while_it_is_sealed_stays_in_what_was_sealed(
    bundle: Bundle, place: Send, now: datetime
) -> None:
    for number in range(12):
        place(bundle, "kept.txt", f"kept {number}".encode())
        place(bundle, "gone.txt", f"gone {number}".encode())
        file = File.objects.filter(path="gone.txt").latest("pk")

        def seal() -> list[str]:
            version = services.seal_version(bundle, now=now)
            sealed = list(version.files.values_list("path", flat=True))
            time.sleep(0.05)
            assert list(version.files.values_list("path", flat=True)) == sealed
            return sealed

        sealed, removed = in_threads(seal, lambda file=file: services.remove_file(file, now=now))
        assert sealed in (["gone.txt", "kept.txt"], ["kept.txt"])
        assert removed is None or isinstance(removed, services.FileMoved)


def slowly(job: Callable[[], object]) -> Callable[[], object]:
    """`job`, with half a second after every lock: what two orders of locks can do to one another, they do."""

    def wait_after_locks(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        done = execute(sql, params, many, context)
        if "UPDATE" in sql and sql.startswith("SELECT"):
            time.sleep(0.5)
        return done

    def run() -> object:
        with connection.execute_wrapper(wait_after_locks):
            return job()

    return run


def test_content_placed_again_while_its_version_is_copied_is_no_deadlock(
    bundle: Bundle, place: Send, send: Send, now: datetime
) -> None:
    place(bundle, "first.txt", b"words")
    services.seal_version(bundle, now=now)
    file = File.objects.get()
    again = send(bundle, "again.txt", b"words")
    state, renamed = in_threads(
        slowly(lambda: services.verify_upload(again.pk, now=now)),
        slowly(lambda: services.rename_file(file, "renamed.txt", now=now)),
    )
    assert state == State.DONE
    assert isinstance(renamed, File | services.FileMoved), renamed
    assert Blob.objects.count() == 1


def test_content_that_comes_again_while_it_is_dropped_is_kept(
    bundle: Bundle, place: Send, send: Send, now: datetime, settings: LazySettings
) -> None:
    for number in range(4):
        place(bundle, "a.txt", f"words {number}".encode())
        place(bundle, "a.txt", f"others {number}".encode())
        again = send(bundle, "b.txt", f"words {number}".encode())
        state, _count = in_threads(
            slowly(lambda again=again: services.verify_upload(again.pk, now=now)),
            slowly(lambda: uploads.forget_orphaned_blobs(now=now + timedelta(hours=25))),
        )
        assert state == State.DONE
        kept = bundle.versions.get().files.get(path="b.txt").blob
        assert b"".join(storage().open(kept.storage_key)) == f"words {number}".encode()
    uploads.forget_orphaned_blobs(now=now + timedelta(hours=25))
    assert stored_keys(settings) == set(Blob.objects.values_list("storage_key", flat=True))
