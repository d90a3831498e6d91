from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from accounts.models import User
from library import services
from library.models import Bundle, BundleVersion, File, Upload
from library.names import NameRefused
from tests import factories

Place = Callable[..., Upload]
pytestmark = pytest.mark.django_db


def paths(version: BundleVersion | None) -> list[str]:
    assert version is not None
    return list(version.files.values_list("path", flat=True))


def test_sealing_gives_the_open_version_and_twice_the_same(
    bundle: Bundle, place: Place, now: datetime
) -> None:
    place(bundle, "a.txt", b"words")
    version = services.seal_version(bundle, now=now)
    assert (version.number, version.sealed_at) == (1, now)
    assert services.seal_version(bundle, now=now + timedelta(days=1)) == version
    version.refresh_from_db()
    assert version.sealed_at == now


def test_an_empty_bundle_has_nothing_to_seal(bundle: Bundle, now: datetime) -> None:
    with pytest.raises(services.NothingToSeal, match="“Dragon” has no files yet"):
        services.seal_version(bundle, now=now)
    assert not BundleVersion.objects.sealed().exists()


def test_a_bundle_into_which_a_file_is_on_its_way_is_not_sealed(
    bundle: Bundle, owner: User, place: Place, send: Place, now: datetime
) -> None:
    place(bundle, "a.txt", b"words")
    upload = services.open_upload(bundle, "big.stl", 999, by=owner, now=now)
    with pytest.raises(services.StillUploading, match=r"“big\.stl” is still being uploaded to “Dragon”"):
        services.seal_version(bundle, now=now)
    services.cancel_upload(upload, now=now)
    waiting = send(bundle, "b.txt", b"more")
    with pytest.raises(services.StillUploading, match=r"“b\.txt”"):
        services.seal_version(bundle, now=now)
    assert not BundleVersion.objects.sealed().exists()
    services.verify_upload(waiting.pk, now=now)
    assert paths(services.seal_version(bundle, now=now)) == ["a.txt", "b.txt"]


def test_a_change_after_sealing_opens_the_next_version_as_a_copy(
    bundle: Bundle, place: Place, now: datetime
) -> None:
    place(bundle, "a.txt", b"words")
    place(bundle, "old.txt", b"old")
    first = services.seal_version(bundle, now=now)
    place(bundle, "b.txt", b"more")
    second = services.latest_version(bundle)
    assert second is not None
    assert (second.number, second.sealed_at) == (2, None)
    assert paths(first) == ["a.txt", "old.txt"]
    assert paths(second) == ["a.txt", "b.txt", "old.txt"]
    services.remove_file(File.objects.get(version=second, path="old.txt"), now=now)
    assert paths(services.seal_version(bundle, now=now)) == ["a.txt", "b.txt"]
    assert paths(first) == ["a.txt", "old.txt"]


def test_removing_the_last_file_leaves_the_sealed_version_to_give(
    bundle: Bundle, place: Place, now: datetime
) -> None:
    place(bundle, "a.txt", b"words")
    first = services.seal_version(bundle, now=now)
    services.remove_file(first.files.get(), now=now)
    assert paths(services.latest_version(bundle)) == []
    assert services.seal_version(bundle, now=now) == first


def test_removing_and_renaming_speak_of_the_newest_version_only(
    bundle: Bundle, place: Place, now: datetime
) -> None:
    place(bundle, "a.txt", b"words")
    old = services.seal_version(bundle, now=now).files.get()
    services.remove_file(old, now=now)
    with pytest.raises(services.FileMoved):
        services.remove_file(old, now=now)
    with pytest.raises(services.FileMoved):
        services.rename_file(old, "b.txt", now=now)
    assert File.objects.get() == old


def test_a_file_removed_while_we_looked_is_not_removed_again(
    bundle: Bundle, place: Place, now: datetime
) -> None:
    place(bundle, "a.txt", b"words")
    seen = File.objects.select_related("version__bundle").get()
    File.objects.all().delete()
    with pytest.raises(services.FileMoved):
        services.remove_file(seen, now=now)


def test_a_renamed_file_keeps_its_old_name_where_it_was_sealed(
    bundle: Bundle, place: Place, now: datetime
) -> None:
    place(bundle, "a.txt", b"words")
    first = services.seal_version(bundle, now=now)
    renamed = services.rename_file(first.files.get(), "docs\\READ ME.txt", now=now)
    assert renamed.path == "docs/READ ME.txt"
    assert renamed.version.number == 2
    assert paths(first) == ["a.txt"]
    assert services.rename_file(renamed, "docs/Read me.txt", now=now).path == "docs/Read me.txt"


@pytest.mark.parametrize(
    ("name", "refusal"),
    [("../a.txt", NameRefused), ("B.TXT", services.NameTaken), ("b.txt/a.txt", services.NameTaken)],
)
def test_a_bad_new_name_is_refused_and_nothing_changes(
    bundle: Bundle, place: Place, now: datetime, name: str, refusal: type[Exception]
) -> None:
    place(bundle, "a.txt", b"words")
    place(bundle, "b.txt", b"more")
    services.seal_version(bundle, now=now)
    with pytest.raises(refusal):
        services.rename_file(File.objects.get(path="a.txt"), name, now=now)
    assert BundleVersion.objects.count() == 1


def test_an_archived_bundle_stays_as_it_is(bundle: Bundle, place: Place, now: datetime) -> None:
    place(bundle, "a.txt", b"words")
    services.archive_bundle(bundle, now=now)
    services.archive_bundle(bundle, now=now + timedelta(days=1))
    bundle.refresh_from_db()
    assert bundle.archived_at == now
    assert not Bundle.objects.live().exists()
    with pytest.raises(services.BundleArchived):
        services.remove_file(File.objects.get(), now=now)
    assert File.objects.exists()


def test_a_bundle_without_any_version_gets_its_first(now: datetime, place: Place) -> None:
    bundle = factories.BundleFactory.create(files=0, files__open=True)
    BundleVersion.objects.all().delete()
    assert services.latest_version(bundle) is None
    place(bundle, "a.txt", b"words")
    assert paths(services.latest_version(bundle)) == ["a.txt"]
