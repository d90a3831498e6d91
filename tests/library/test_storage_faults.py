"""Whatever call of the store fails, before or after it has done its work: no byte leaks, and none is lost."""

import io
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings

from accounts.models import User
from groups.models import Creator
from library import services
from library.models import Blob, Bundle, File, Upload
from library.services import uploads
from library.storage import DiskStorage, Part, Readable, StorageDown
from library.storage.base import Stretch
from tests import factories

pytestmark = pytest.mark.django_db
State = Upload.State
ONCE, LONG = 1, 6
# Which calls of a life fail: those in which it differs what was done before.
CALLS = {
    "create": [1, 7],
    "put_part": [1, 7],
    "list_parts": [1],
    "complete": [1, 2, 5],
    "abort": range(1, 9),
    "open": [1, 2, 9],
    "size": [1, 5],
    "delete": range(1, 10),
}


class Faulty(DiskStorage):
    """A disk whose `method` fails from its `at`-th call on for `times` calls, before its work or when it is done."""

    def __init__(self, root: Path, method: str, at: int, moment: str, times: int) -> None:
        super().__init__(root)
        self.method, self.at, self.moment, self.times = method, at, moment, times
        self.calls: Counter[str] = Counter()

    def _call(self, method: str, *args: Any, **options: Any) -> Any:
        self.calls[method] += 1
        now = method == self.method and self.at <= self.calls[method] < self.at + self.times
        if now and self.moment == "before":
            raise StorageDown
        done = getattr(super(), method)(*args, **options)
        if now:
            if isinstance(done, Stretch):
                done.close()
            raise StorageDown
        return done

    def create(self, key: str, *, part_size: int) -> str:
        return str(self._call("create", key, part_size=part_size))

    def put_part(
        self, key: str, upload_id: str, number: int, stream: Readable, size: int, *, sha256: str = ""
    ) -> str:
        return str(self._call("put_part", key, upload_id, number, stream, size, sha256=sha256))

    def list_parts(self, key: str, upload_id: str) -> list[Part]:
        parts: list[Part] = self._call("list_parts", key, upload_id)
        return parts

    def complete(self, key: str, upload_id: str, parts: Sequence[Part]) -> None:
        self._call("complete", key, upload_id, parts)

    def abort(self, key: str, upload_id: str) -> None:
        self._call("abort", key, upload_id)

    def open(self, key: str, start: int = 0, end: int | None = None) -> Any:
        return self._call("open", key, start, end)

    def size(self, key: str) -> int:
        return int(self._call("size", key))

    def delete(self, key: str) -> None:
        self._call("delete", key)


def tried(action: Any) -> Any:
    """`action`'s answer; what a person or a worker would try again is tried again."""
    for _n in range(LONG + 1):
        with suppress(StorageDown):
            return action()
    raise StorageDown


def send(bundle: Bundle, path: str, content: bytes, *, by: User, now: datetime) -> Upload:
    upload: Upload = tried(lambda: services.open_upload(bundle, path, len(content), by=by, now=now))
    tried(lambda: services.put_part(upload, 1, io.BytesIO(content), len(content), now=now))
    tried(lambda: services.complete_upload(upload, now=now))
    for _n in range(LONG + 1):
        services.verify_upload(upload.pk, now=now)
    upload.refresh_from_db()
    return upload


def live_through(bundle: Bundle, *, by: User, now: datetime) -> None:
    """Files that come, come twice, are replaced, refused, cancelled and abandoned, and the sweeps of some days."""
    send(bundle, "kept.txt", b"kept", by=by, now=now)
    send(bundle, "copy.txt", b"kept", by=by, now=now)
    send(bundle, "replaced.txt", b"old", by=by, now=now)
    send(bundle, "replaced.txt", b"new", by=by, now=now)
    assert send(bundle, "a.pdf", b"no PDF at all", by=by, now=now).state == State.REFUSED
    cancelled = tried(lambda: services.open_upload(bundle, "b.txt", 4, by=by, now=now))
    tried(lambda: services.put_part(cancelled, 1, io.BytesIO(b"abcd"), 4, now=now))
    services.cancel_upload(cancelled, now=now)
    abandoned = tried(lambda: services.open_upload(bundle, "c.txt", 4, by=by, now=now))
    tried(lambda: services.put_part(abandoned, 1, io.BytesIO(b"abcd"), 4, now=now))
    for days in range(1, 5 + LONG):
        later = now + timedelta(days=days, hours=days)
        uploads.forget_abandoned_uploads(now=later)
        uploads.forget_orphaned_blobs(now=later)


@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize(("moment", "times"), [("after", ONCE), ("before", LONG)])
def test_a_store_that_fails_loses_nothing_and_keeps_nothing(
    creator: Creator, owner: User, now: datetime, settings: LazySettings, monkeypatch: pytest.MonkeyPatch,
    method: str, moment: str, times: int,
) -> None:  # fmt: skip
    for at in CALLS[method]:
        root = Path(settings.MEDIA_ROOT) / f"{at}"
        settings.MEDIA_ROOT = root
        bundle = factories.BundleFactory.create(creator=creator, files=0, files__open=True)
        faulty = Faulty(root, method, at, moment, times)
        monkeypatch.setattr(uploads, "storage", lambda faulty=faulty: faulty)
        live_through(bundle, by=owner, now=now)
        assert faulty.calls[method] >= at, "the fault this test is about never happened"
        whole = File.objects.filter(version__bundle=bundle).select_related("blob")
        contents = {file.path: b"".join(faulty.open(file.blob.storage_key)) for file in whole}
        assert contents == {"kept.txt": b"kept", "copy.txt": b"kept", "replaced.txt": b"new"}
        on_disk = {path.name for path in root.glob("blobs/*/*")}
        assert on_disk == set(Blob.objects.values_list("storage_key", flat=True))
        assert Blob.objects.count() == 2
        assert list((root / "uploads").iterdir()) == []
        assert not Upload.objects.exists()
        bundle.delete()
        Blob.objects.all().delete()


def test_an_upload_whose_storage_never_answered_takes_no_parts_and_is_swept(
    bundle: Bundle, owner: User, now: datetime, settings: LazySettings
) -> None:
    upload = services.open_upload(bundle, "a.txt", 4, by=owner, now=now)
    Upload.objects.update(storage_upload_id="")
    upload.refresh_from_db()
    with pytest.raises(services.UploadOver):
        services.put_part(upload, 1, io.BytesIO(b"abcd"), 4, now=now)
    with pytest.raises(services.UploadOver):
        services.complete_upload(upload, now=now)
    uploads.forget_abandoned_uploads(now=now + timedelta(hours=25))
    assert list((Path(settings.MEDIA_ROOT) / "uploads").iterdir()) == []
