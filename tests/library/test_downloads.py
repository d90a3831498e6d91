"""From the right to the bytes: who gets what, in which stretches, and in one ZIP."""

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.http import HttpResponse, StreamingHttpResponse
from django.test import Client
from moto import mock_aws

from accounts.models import User
from groups.models import Creator
from library import services
from library.models import Bundle, BundleVersion, Download, File, Holding, LibraryEntry
from library.storage import DiskStorage, storage
from library.storage.s3 import LINK_SECONDS
from library.zipping import BlobBroken
from tests import factories

pytestmark = pytest.mark.django_db
CONTENT = bytes(range(256)) * 8
ETAG = f'"{hashlib.sha256(CONTENT).hexdigest()}"'


@pytest.fixture
def version(bundle: Bundle, now: datetime) -> BundleVersion:
    version = bundle.versions.get()
    factories.add_file(version, "Ünder/body “1”.stl", CONTENT)
    factories.add_file(version, "base.stl", b"base")
    return services.seal_version(bundle, now=now)


def give(
    user: User, versions: Iterable[BundleVersion], now: datetime, origin_key: str = "release:1"
) -> Holding:
    services.add_holdings(
        User.objects.filter(pk=user.pk).values_list("pk", flat=True),
        versions=list(versions),
        origin_key=origin_key,
        title="March: dragons / and more",
        group_name="Patrons",
        given_at=now,
    )
    return Holding.objects.filter(entry__user=user, origin_key=origin_key).earliest("pk")


@pytest.fixture
def holding(member: User, version: BundleVersion, now: datetime) -> Holding:
    return give(member, [version], now)


@pytest.fixture
def file(version: BundleVersion) -> File:
    return version.files.get(path__startswith="Ünder")


@pytest.fixture
def reader(member: User, client_of: Callable[[User | None], Client], holding: Holding) -> Client:
    return client_of(member)


def body(response: object) -> bytes:
    assert isinstance(response, StreamingHttpResponse)
    return b"".join(response.streaming_content)  # type: ignore[arg-type]


def url(file: File) -> str:
    return f"/library/files/{file.pk}/"


# --- one file -------------------------------------------------------------------------------------


def test_the_bytes_are_those_that_were_uploaded(reader: Client, file: File, member: User) -> None:
    response = reader.get(url(file))
    assert response.status_code == 200
    assert body(response) == CONTENT
    assert response["Content-Length"] == "2048"
    assert response["Content-Type"] == "model/stl"
    assert response["ETag"] == ETAG
    assert response["Accept-Ranges"] == "bytes"
    assert response["Cache-Control"] == "private, no-cache"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Content-Security-Policy"] == "sandbox"
    assert "filename*=UTF-8''body%20%E2%80%9C1%E2%80%9D.stl" in response["Content-Disposition"]
    assert list(Download.objects.values_list("user", "version", "file")) == [
        (member.pk, file.version_id, file.pk)
    ]


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=2047-", 2047, 2048),
        ("bytes=100-99999", 100, 2048),
        ("bytes=-1", 2047, 2048),
        ("bytes=-99999", 0, 2048),
    ],
)
def test_a_stretch_is_answered_as_a_stretch(
    reader: Client, file: File, asked: str, start: int, end: int
) -> None:
    response = reader.get(url(file), headers={"Range": asked})
    assert response.status_code == 206
    assert response["Content-Range"] == f"bytes {start}-{end - 1}/2048"
    assert response["Content-Length"] == str(end - start)
    assert body(response) == CONTENT[start:end]


@pytest.mark.parametrize("asked", ["bytes=2048-", "bytes=9999-10000", "bytes=-0"])
def test_a_stretch_past_the_end_is_refused_with_the_size(reader: Client, file: File, asked: str) -> None:
    response = reader.get(url(file), headers={"Range": asked})
    assert response.status_code == 416
    assert response["Content-Range"] == "bytes */2048"


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=5-2",
        "bytes=-",
        "bytes=a-b",
        "lines=0-5",
        "bytes=0-0,5-9",
        "bytes=" + "0-0," * 10_000 + "1-1",
        "bytes=١-٢",
    ],
)
def test_a_range_that_is_none_or_many_is_answered_whole(reader: Client, file: File, asked: str) -> None:
    response = reader.get(url(file), headers={"Range": asked})
    assert response.status_code == 200
    assert body(response) == CONTENT


def test_going_on_needs_the_same_content(reader: Client, file: File) -> None:
    same = reader.get(url(file), headers={"Range": "bytes=5-9", "If-Range": ETAG})
    assert (same.status_code, body(same)) == (206, CONTENT[5:10])
    for other in ('"other"', f"W/{ETAG}", "Sat, 21 Nov 2026 12:00:00 GMT"):
        whole = reader.get(url(file), headers={"Range": "bytes=5-9", "If-Range": other})
        assert (whole.status_code, body(whole)) == (200, CONTENT)


def test_what_the_browser_has_is_not_sent_again(reader: Client, file: File) -> None:
    response = reader.get(url(file), headers={"If-None-Match": f'"x", {ETAG}'})
    assert (response.status_code, response.content) == (304, b"")


def test_a_look_at_the_headers_opens_no_file(reader: Client, file: File) -> None:
    response = reader.head(url(file))
    assert isinstance(response, HttpResponse)
    assert (response.status_code, response["Content-Length"], response.content) == (200, "2048", b"")
    assert not Download.objects.exists()


def test_going_on_is_no_second_download(reader: Client, file: File) -> None:
    for asked in ("bytes=0-", "bytes=100-", "bytes=-5", "bytes=007-"):
        body(reader.get(url(file), headers={"Range": asked}))
    assert Download.objects.count() == 1


def test_only_looking_is_allowed(reader: Client, file: File) -> None:
    assert reader.post(url(file)).status_code == 405


# --- the right ------------------------------------------------------------------------------------


def addresses(holding: Holding, file: File) -> list[str]:
    return [url(file), f"/library/{holding.entry_id}/all.zip", f"/library/releases/{holding.pk}/all.zip"]


def test_a_stranger_the_creator_and_nobody_get_nothing(
    holding: Holding, file: File, owner: User, stranger: User, client_of: Callable[[User | None], Client]
) -> None:
    for address in addresses(holding, file):
        assert client_of(stranger).get(address).status_code == 404
        assert client_of(owner).get(address).status_code == 404
        assert client_of(None).get(address).status_code == 302
    assert not Download.objects.exists()


def test_a_recalled_file_stops_at_the_next_hop(
    reader: Client, holding: Holding, file: File, now: datetime
) -> None:
    body(reader.get(url(file), headers={"Range": "bytes=0-9"}))
    services.end_holdings("release:1", reason="Recalled", now=now)
    for address in addresses(holding, file):
        assert reader.get(address, headers={"Range": "bytes=10-19"}).status_code == 404


def test_a_version_that_was_not_given_stays_closed(
    reader: Client, bundle: Bundle, version: BundleVersion
) -> None:
    newer = BundleVersion.objects.create(bundle=bundle, number=2)
    later = factories.add_file(newer, "later.stl", b"later")
    assert reader.get(url(later)).status_code == 404


def test_an_older_version_that_is_still_held_can_be_had_and_all_means_the_newest(
    reader: Client, bundle: Bundle, member: User, file: File, holding: Holding, now: datetime
) -> None:
    newer = BundleVersion.objects.create(bundle=bundle, number=2, sealed_at=now)
    factories.add_file(newer, "later.stl", b"later")
    give(member, [newer], now, origin_key="release:2")
    assert body(reader.get(url(file))) == CONTENT
    names = unzipped(reader.get(f"/library/{holding.entry_id}/all.zip")).namelist()
    assert names == ["Dragon/MANIFEST.sha256", "Dragon/later.stl"]


@pytest.mark.parametrize("pk", ["0", "9223372036854775808", "-1", "١", "1%00"])
def test_numbers_that_are_none_of_ours_are_not_found(reader: Client, pk: str) -> None:
    assert reader.get(f"/library/files/{pk}/").status_code == 404
    assert reader.get(f"/library/{pk}/all.zip").status_code == 404


# --- everything as one ZIP ------------------------------------------------------------------------


def unzipped(response: object) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(body(response)))


def test_everything_comes_as_one_zip_of_a_known_length(
    reader: Client, holding: Holding, member: User
) -> None:
    response = reader.get(f"/library/{holding.entry_id}/all.zip")
    data = body(response)
    assert response["Content-Length"] == str(len(data))
    assert response["Content-Type"] == "application/zip"
    assert 'filename="Dragon.zip"' in response["Content-Disposition"]
    archive = zipfile.ZipFile(io.BytesIO(data))
    assert archive.testzip() is None
    assert archive.namelist() == ["Dragon/MANIFEST.sha256", "Dragon/base.stl", "Dragon/Ünder/body “1”.stl"]
    assert archive.read("Dragon/Ünder/body “1”.stl") == CONTENT
    manifest = dict(
        reversed(line.split("  ", 1)) for line in archive.read("Dragon/MANIFEST.sha256").decode().splitlines()
    )
    assert manifest["base.stl"] == hashlib.sha256(b"base").hexdigest()
    assert len(manifest) == 2
    assert list(Download.objects.values_list("user", "file")) == [(member.pk, None)]


def test_the_zip_of_a_release_keeps_its_bundles_apart(
    creator: Creator,
    member: User,
    version: BundleVersion,
    now: datetime,
    client_of: Callable[[User | None], Client],
) -> None:
    twin = factories.BundleFactory.create(creator=creator, title="DRAGON")
    odd = factories.BundleFactory.create(creator=creator, title="../C:\\aux")
    holding = give(member, [version, twin.versions.get(), odd.versions.get()], now)
    response = client_of(member).get(f"/library/releases/{holding.pk}/all.zip")
    archive = unzipped(response)
    root = "March dragons and more"
    assert f'filename="{root}.zip"' in response["Content-Disposition"]
    assert {name.rsplit("/", 1)[0] for name in archive.namelist()} == {
        root,
        f"{root}/Dragon",
        f"{root}/Dragon/Ünder",
        f"{root}/DRAGON (2)",
        f"{root}/C aux",
    }
    for line in archive.read(f"{root}/MANIFEST.sha256").decode().splitlines():
        digest, path = line.split("  ", 1)
        assert hashlib.sha256(archive.read(f"{root}/{path}")).hexdigest() == digest
    assert Download.objects.count() == 3


def test_a_file_called_like_the_manifest_keeps_its_name(
    reader: Client, member: User, creator: Creator, now: datetime
) -> None:
    bundle = factories.BundleFactory.create(creator=creator, title="Odd", files=0)
    factories.add_file(bundle.versions.get(), "manifest.SHA256", b"mine")
    holding = give(member, [bundle.versions.get()], now, origin_key="release:9")
    archive = unzipped(reader.get(f"/library/{holding.entry_id}/all.zip"))
    assert archive.namelist() == ["Odd/_MANIFEST.sha256", "Odd/manifest.SHA256"]
    assert archive.read("Odd/manifest.SHA256") == b"mine"


def test_the_length_can_be_asked_for_first(reader: Client, holding: Holding) -> None:
    address = f"/library/{holding.entry_id}/all.zip"
    head = reader.head(address)
    assert not Download.objects.exists()
    assert int(head["Content-Length"]) == len(body(reader.get(address)))


@pytest.mark.parametrize("broken", [CONTENT[:-1], b"x" * 2048])
def test_a_broken_stored_file_ends_the_answer_rather_than_lying(
    reader: Client, holding: Holding, file: File, broken: bytes
) -> None:
    store = storage()
    assert isinstance(store, DiskStorage)
    (store.root / store.accelerated(file.blob.storage_key)).write_bytes(broken)
    response = reader.get(f"/library/{holding.entry_id}/all.zip")
    with pytest.raises(BlobBroken):
        body(response)


def test_one_zip_that_broke_off_goes_on_where_it_stopped(
    reader: Client, holding: Holding, version: BundleVersion
) -> None:
    address = f"/library/{holding.entry_id}/all.zip"
    first, again = reader.get(address), reader.get(address)
    whole, etag = body(first), first["ETag"]
    assert (body(again), again["ETag"], first["Accept-Ranges"]) == (whole, etag, "bytes")
    rest = reader.get(address, headers={"Range": "bytes=300-", "If-Range": etag})
    assert (rest.status_code, rest["Content-Range"]) == (206, f"bytes 300-{len(whole) - 1}/{len(whole)}")
    assert whole[:300] + body(rest) == whole
    tail = reader.get(address, headers={"Range": "bytes=-22"})
    assert body(tail)[:4] == b"PK\x05\x06"
    assert reader.get(address, headers={"Range": f"bytes={len(whole)}-"}).status_code == 416
    head = reader.head(address, headers={"Range": "bytes=0-9"})
    assert (head.status_code, head["Content-Length"], head["ETag"]) == (206, "10", etag)
    assert reader.get(address, headers={"If-None-Match": etag}).status_code == 304
    assert Download.objects.filter(file=None).count() == 3, "going on, and looking, are no downloads"
    # Another title, another licence: other bytes under another name, and nothing of the two is joined.
    Bundle.objects.filter(pk=version.bundle_id).update(licence="For your own prints only.")
    changed = reader.get(address, headers={"Range": "bytes=300-", "If-Range": etag})
    assert changed.status_code == 200
    assert changed["ETag"] != etag
    assert len(body(changed)) > len(whole)


def test_the_licence_of_each_bundle_lies_in_the_zip(
    reader: Client, creator: Creator, member: User, version: BundleVersion, now: datetime
) -> None:
    Bundle.objects.filter(pk=version.bundle_id).update(licence="Prints for yourself – “only”.\r\nNo sale.")
    other = factories.BundleFactory.create(creator=creator, title="Knight", licence="Sell what you print.")
    factories.add_file(other.versions.get(), "licence.TXT/part.stl", b"a folder of that name")
    silent = factories.BundleFactory.create(creator=creator, title="Silent", licence=" \n")
    given = [version, other.versions.get(), silent.versions.get()]
    holding = give(member, given, now, origin_key="release:3")
    archive = unzipped(reader.get(f"/library/releases/{holding.pk}/all.zip"))
    root = "March dragons and more"
    assert (
        archive.read(f"{root}/Dragon/LICENCE.txt").decode() == "Prints for yourself – “only”.\r\nNo sale.\n"
    )
    assert archive.read(f"{root}/Knight/_LICENCE.txt") == b"Sell what you print.\n"
    assert not any("Silent" in name and "LICENCE" in name for name in archive.namelist())
    manifest = archive.read(f"{root}/MANIFEST.sha256").decode()
    digest = hashlib.sha256(b"Sell what you print.\n").hexdigest()
    assert f"{digest}  Knight/_LICENCE.txt\n" in manifest


# --- where another server sends the bytes ---------------------------------------------------------


def test_nginx_may_send_what_we_allowed(
    reader: Client, file: File, settings: LazySettings, holding: Holding, now: datetime
) -> None:
    settings.X_ACCEL_PREFIX = "/protected/"
    response = reader.get(url(file), headers={"Range": "bytes=5-9"})
    assert response["X-Accel-Redirect"].startswith("/protected/blobs/")
    assert Path(settings.MEDIA_ROOT, response["X-Accel-Redirect"].removeprefix("/protected/")).is_file()
    assert response["Content-Disposition"].startswith("attachment")
    assert "Content-Range" not in response
    services.end_holdings("release:1", reason="Recalled", now=now)
    assert reader.get(url(file)).status_code == 404


@mock_aws
def test_from_a_bucket_the_browser_is_sent_to_a_short_lived_link(
    reader: Client, file: File, settings: LazySettings, holding: Holding, now: datetime
) -> None:
    settings.S3_BUCKET, settings.S3_ACCESS_KEY, settings.S3_SECRET_KEY = "files", "k", "s"
    response = reader.get(url(file))
    assert response.status_code == 302
    assert f"X-Amz-Expires={LINK_SECONDS}" in response["Location"]
    assert f"/blobs/{file.blob.storage_key}?" in response["Location"]
    assert response["Cache-Control"] == "private, no-cache"
    assert Download.objects.count() == 1
    # The link is signed for GET: a bucket would answer a HEAD that follows it with 403.
    head = reader.head(url(file))
    assert (head.status_code, head["Content-Length"], head["Content-Type"]) == (200, "2048", "model/stl")
    assert "ETag" not in head
    services.end_holdings("release:1", reason="Recalled", now=now)
    assert reader.get(url(file)).status_code == 404


def test_an_entry_of_somebody_elses_opens_nothing(
    reader: Client, stranger: User, creator: Creator, now: datetime
) -> None:
    other = factories.BundleFactory.create(creator=creator)
    theirs = give(stranger, [other.versions.get()], now, origin_key="release:7")
    assert LibraryEntry.objects.count() == 2
    for address in addresses(theirs, other.versions.get().files.get()):
        assert reader.get(address).status_code == 404
