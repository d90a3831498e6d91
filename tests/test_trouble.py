"""Work that keeps going wrong: others go on, the owner reads it in words, an operator is told, what may end ends."""

import io
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Letter, User
from distribution import tasks as giving
from distribution.models import Grant, Release
from distribution.services import confirm_release, grants
from groups import services as groups
from groups import tasks as importing
from groups.imports.mapping import Mapping
from groups.models import Contact, Creator, Group, Import, Membership
from groups.services import applying, checking
from library import tasks as checking_files
from library.models import Upload
from library.services import uploads
from library.storage import DiskStorage
from messaging import tasks as mailing
from messaging.models import Message
from messaging.services import ask_dry_run, counting, start_message
from rows.clock import db_now
from rows.work import GIVE_UP_AT, TELL_AT, Work
from tests import factories

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def operator(settings: LazySettings) -> None:
    settings.ALARM_TO = ["ops@site.example"]


@pytest.fixture
def studio(owner: User, client_of: Callable[[User | None], Client]) -> Client:
    return client_of(owner)


def alarms() -> list[str]:
    return list(Letter.objects.filter(kind="alarm").order_by("pk").values_list("text", flat=True))


def time_passes(row: Work) -> None:
    """Its lease has lapsed and its next attempt may begin."""
    past = db_now() - timedelta(seconds=1)
    type(row)._default_manager.filter(pk=row.pk).update(lease_until=None, not_before=past)


def page(studio: Client, name: str, creator: Creator, pk: int) -> str:
    return studio.get(reverse(f"studio:{name}", args=[creator.slug, pk])).content.decode()


def confirmed(patrons: Group, owner: User, **options: str) -> Release:
    past = timezone.now() - MINUTE
    bundle = factories.BundleFactory.create(creator=patrons.creator)
    release = factories.ReleaseFactory.create(
        creator=patrons.creator, bundles=[bundle], groups=[patrons], **options
    )
    confirm_release(release, publish_at=past, by=owner, now=past)
    return release


def test_a_release_that_cannot_be_given_keeps_no_other_waiting_and_is_never_given_up(
    studio: Client, patrons: Group, contact: Contact, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, late, other = (
        confirmed(patrons, owner),
        confirmed(patrons, owner, rule="late_joiners"),
        confirmed(patrons, owner),
    )
    give = grants._grant

    def breaks(release: Release, *page: Any) -> int:
        if release.pk == broken.pk:
            raise RuntimeError("out of luck")
        return give(release, *page)

    monkeypatch.setattr(grants, "_grant", breaks)
    giving.sweep()
    assert set(Grant.objects.values_list("release", flat=True)) == {late.pk, other.pk}
    # Whoever joins late does not wait for the broken one either.
    joined = groups.add_contact(patrons.creator, "late@example.org", "", now=timezone.now())
    groups.start_membership(patrons, joined, now=timezone.now())
    giving.sweep()
    assert Grant.objects.filter(release=late).count() == 2
    words = page(studio, "release", patrons.creator, broken.pk)
    assert "Something on our side went wrong with this" in words
    assert "have been told" not in words
    for _ in range(GIVE_UP_AT):
        time_passes(broken)
        giving.sweep()
    broken.refresh_from_db()
    assert broken.attempts == GIVE_UP_AT + 1
    assert "The people who run this site have been told" in page(
        studio, "release", patrons.creator, broken.pk
    )
    assert "out of luck" not in page(studio, "release", patrons.creator, broken.pk)
    assert len(alarms()) == GIVE_UP_AT + 2 - TELL_AT
    assert f"release {broken.pk}" in alarms()[0]
    assert "RuntimeError: out of luck" in alarms()[0]
    monkeypatch.setattr(grants, "_grant", give)
    time_passes(broken)
    giving.sweep()
    broken.refresh_from_db()
    assert (broken.state, broken.attempts) == (Release.State.PUBLISHED, 0)
    assert "went wrong" not in page(studio, "release", patrons.creator, broken.pk)


def an_import(patrons: Group, owner: User, address: str = "new@example.org") -> Import:
    run = groups.paste_list(patrons, address, by=owner, now=timezone.now())
    groups.choose_mapping(run, Mapping.from_json(run.mapping), now=timezone.now())
    return run


def test_an_import_whose_check_raises_ends_in_words_and_keeps_no_other_waiting(
    studio: Client, patrons: Group, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, other = an_import(patrons, owner), an_import(patrons, owner, "other@example.org")
    judge = checking.judge_rows

    def breaks(run: Import, rows: Any, **options: Any) -> object:
        if run.pk == broken.pk:
            raise RuntimeError("out of luck")
        return judge(run, rows, **options)

    monkeypatch.setattr(checking, "judge_rows", breaks)
    importing.sweep()
    other.refresh_from_db()
    assert other.state == Import.State.CHECKED
    assert "It is tried again" in page(studio, "import", patrons.creator, broken.pk)
    for _ in range(GIVE_UP_AT - 1):
        time_passes(broken)
        importing.sweep()
    broken.refresh_from_db()
    assert broken.state == Import.State.REFUSED
    words = page(studio, "import", patrons.creator, broken.pk)
    assert "Nothing was changed" in words
    assert "out of luck" not in words
    assert not Membership.objects.exists()
    assert len(alarms()) == GIVE_UP_AT + 1 - TELL_AT


def test_an_import_whose_applying_raises_says_how_far_it_came_and_lets_the_next_one_in(
    patrons: Group, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = an_import(patrons, owner)
    importing.sweep()
    broken.refresh_from_db()
    ask = {"consent": True, "gone_at": None, "typed": "", "by": owner, "now": timezone.now()}
    groups.request_apply(broken, **ask)
    with monkeypatch.context() as patch:
        patch.setattr(applying, "judge_rows", lambda *_: 1 / 0)
        for _ in range(GIVE_UP_AT):
            importing.sweep()
            time_passes(broken)
    broken.refresh_from_db()
    assert broken.state == Import.State.REFUSED
    assert "applied up to line 0" in broken.reason
    assert not groups.give_up_import(broken)
    again = an_import(patrons, owner)
    importing.sweep()
    again.refresh_from_db()
    groups.request_apply(again, **ask)
    importing.sweep()
    assert Membership.objects.count() == 1


def an_upload(creator: Creator, owner: User, path: str) -> Upload:
    bundle = factories.BundleFactory.create(creator=creator, files=0, files__open=True)
    now = timezone.now()
    upload = uploads.open_upload(bundle, path, 5, by=owner, now=now)
    uploads.put_part(upload, 1, io.BytesIO(b"words"), 5, now=now)
    uploads.complete_upload(upload, now=now)
    return upload


def test_a_file_whose_check_raises_is_refused_in_words_after_so_many_attempts_and_leaves_no_bytes(
    studio: Client, creator: Creator, owner: User, monkeypatch: pytest.MonkeyPatch, settings: LazySettings
) -> None:
    broken, other = an_upload(creator, owner, "a.txt"), an_upload(creator, owner, "b.txt")
    read, opened = DiskStorage.open, list[str]()

    def counting_reads(self: DiskStorage, key: str, *args: int) -> object:
        opened.append(key)
        return read(self, key, *args)

    identify = uploads.identify

    def breaks(path: str, *args: object) -> object:
        if path == "a.txt":
            raise RuntimeError("out of luck")
        return identify(path, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(DiskStorage, "open", counting_reads)
    monkeypatch.setattr(uploads, "identify", breaks)
    checking_files.sweep()
    checking_files.sweep()
    other.refresh_from_db()
    assert other.state == Upload.State.DONE
    assert opened.count(broken.storage_key) == 1, "it is not read again before its next attempt"
    assert "your file is kept" in page(studio, "bundle", creator, broken.bundle_id)
    for _ in range(GIVE_UP_AT - 1):
        time_passes(broken)
        checking_files.sweep()
    broken.refresh_from_db()
    assert broken.state == Upload.State.REFUSED
    assert "Upload it again" in page(studio, "bundle", creator, broken.bundle_id)
    assert not any(
        broken.storage_key in found.name for found in settings.MEDIA_ROOT.rglob("*") if found.is_file()
    )
    assert len(alarms()) == GIVE_UP_AT + 1 - TELL_AT
    assert not uploads.give_up_upload(broken, now=timezone.now())


def test_a_draft_that_cannot_be_counted_says_so_and_is_asked_anew_without_its_past(
    patrons: Group, contact: Contact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "AT_ONCE", 0)
    bundle = factories.BundleFactory.create(creator=patrons.creator)
    release = factories.ReleaseFactory.create(creator=patrons.creator, bundles=[bundle], groups=[patrons])
    message: Message = start_message(release)
    run = ask_dry_run(message, now=timezone.now())
    assert run is not None
    with monkeypatch.context() as patch:
        patch.setattr(counting, "count", lambda _page: 1 / 0)
        mailing.count_dry_run(run.pk)
    run.refresh_from_db()
    assert (run.attempts, run.done_at) == (1, None)
    later = ask_dry_run(message, now=timezone.now(), at=timezone.now() + timedelta(days=1))
    assert later is not None
    assert (later.attempts, later.not_before, later.last_error) == (0, None, "")
