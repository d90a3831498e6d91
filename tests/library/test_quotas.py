"""A creator who is not approved yet has little room, and is told what to do."""

import io
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.conf import LazySettings
from django.core.cache import cache
from django.test import Client

from accounts.models import User
from groups.models import Creator
from groups.services import approve_creator
from library import services
from library.models import Bundle, Upload
from library.services import covers, quotas, uploads
from tests import factories
from tests.library.test_covers import picture
from tests.library.test_upload_races import in_threads

pytestmark = pytest.mark.django_db
Send = Callable[..., Upload]


@pytest.fixture(autouse=True)
def small(settings: LazySettings, creator: Creator) -> None:
    cache.clear()
    settings.UNAPPROVED_UPLOADS, settings.UNAPPROVED_BYTES, settings.UNAPPROVED_COVERS = 2, 100, 1
    creator.approved_at = None
    creator.save(update_fields=["approved_at"])


def open_one(bundle: Bundle, owner: User, now: datetime, path: str = "a.txt", size: int = 10) -> Upload:
    return services.open_upload(bundle, path, size, by=owner, now=now)


def test_no_more_uploads_than_so_many_are_on_their_way(
    bundle: Bundle, creator: Creator, owner: User, now: datetime
) -> None:
    other = factories.BundleFactory.create(creator=creator)
    first = open_one(bundle, owner, now)
    open_one(other, owner, now)
    with pytest.raises(services.QuotaReached, match=r"2 files can be on their way at a time. Wait for them"):
        open_one(bundle, owner, now, "c.txt")
    assert Upload.objects.count() == 2
    services.cancel_upload(first, now=now)
    open_one(bundle, owner, now, "c.txt")


def test_all_its_files_take_no_more_than_so_many_bytes_together(
    bundle: Bundle, owner: User, place: Send, now: datetime
) -> None:
    place(bundle, "kept.txt", b"x" * 50)
    place(bundle, "copy.txt", b"x" * 50)
    open_one(bundle, owner, now, "coming.txt", 30)
    with pytest.raises(services.QuotaReached, match=r"may take 100\xa0bytes in all.*after the approval"):
        open_one(bundle, owner, now, "more.txt", 21)
    open_one(bundle, owner, now, "more.txt", 20)


def test_what_was_removed_makes_room_after_a_day(
    bundle: Bundle, owner: User, place: Send, now: datetime
) -> None:
    services.remove_file(place(bundle, "big.txt", b"x" * 90).file, now=now)  # type: ignore[arg-type]
    with pytest.raises(services.QuotaReached):
        open_one(bundle, owner, now, size=20)
    uploads.forget_orphaned_blobs(now=now + timedelta(hours=25))
    open_one(bundle, owner, now, size=20)


def test_an_approved_creator_has_all_the_room_there_is(
    bundle: Bundle, creator: Creator, owner: User, now: datetime
) -> None:
    approve_creator(creator, by=owner, now=now)
    for number in range(5):
        open_one(bundle, owner, now, f"{number}.txt", 1000)


def test_the_upload_page_is_told_why(
    bundle: Bundle, creator: Creator, owner: User, client_of: Callable[[User | None], Client]
) -> None:
    response = client_of(owner).post(
        f"/studio/{creator.slug}/bundles/{bundle.pk}/uploads/",
        {"path": "a.txt", "size": 101},
        content_type="application/json",
    )
    assert response.status_code == 422
    assert response.json()["error"].startswith("Until your studio is approved")
    assert response.json()["retry"] is False


def test_one_cover_at_a_time_and_the_next_when_it_is_done(
    bundle: Bundle, creator: Creator, owner: User, client_of: Callable[[User | None], Client],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    shrink = covers._shrunk

    def and_another_meanwhile(data: bytes) -> bytes:
        monkeypatch.setattr(covers, "_shrunk", shrink)
        with pytest.raises(services.QuotaReached, match="Another picture of yours"):
            services.set_cover(bundle, io.BytesIO(picture()))
        page = client_of(owner).post(
            f"/studio/{creator.slug}/bundles/{bundle.pk}/cover/",
            {"picture": io.BytesIO(picture())},
            follow=True,
        )
        assert "Another picture of yours" in page.content.decode()
        return shrink(data)

    monkeypatch.setattr(covers, "_shrunk", and_another_meanwhile)
    services.set_cover(bundle, io.BytesIO(picture()))
    before = bundle.cover.name
    services.set_cover(bundle, io.BytesIO(picture()))
    assert bundle.cover.name != before
    with pytest.raises(services.PictureRefused):
        services.set_cover(bundle, io.BytesIO(b"no picture"))
    services.set_cover(bundle, io.BytesIO(picture()))


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_many_tabs_at_once_get_no_more_than_one(bundle: Bundle, owner: User, now: datetime) -> None:
    jobs = [lambda n=n: open_one(bundle, owner, now, f"{n}.txt") for n in range(8)]
    results = in_threads(*jobs)
    assert sum(isinstance(result, Upload) for result in results) == 2
    assert sum(isinstance(result, services.QuotaReached) for result in results) == 6
    assert Upload.objects.count() == 2


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_many_tabs_at_once_get_no_more_bytes_than_there_are(
    bundle: Bundle, owner: User, now: datetime, settings: LazySettings
) -> None:
    settings.UNAPPROVED_UPLOADS = 8
    jobs = [lambda n=n: open_one(bundle, owner, now, f"{n}.txt", 40) for n in range(8)]
    results = in_threads(*jobs)
    assert sum(isinstance(result, Upload) for result in results) == 2
    assert sum(isinstance(result, services.QuotaReached) for result in results) == 6
    assert sum(Upload.objects.values_list("size", flat=True)) == 80


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_many_tabs_at_once_one_has_its_cover_made(creator: Creator) -> None:
    gate, refused = threading.Barrier(8), threading.Semaphore(0)

    def one() -> bool:
        cache.get("connected")
        gate.wait(10)
        try:
            with quotas.turn_for_cover(creator, seconds=60):
                # Until all the others were turned away.
                return all(refused.acquire(timeout=10) for _other in range(7))
        except services.QuotaReached:
            refused.release()
            return False

    for _round in range(10):
        assert sorted(map(str, in_threads(*[one] * 8))) == ["False"] * 7 + ["True"]
