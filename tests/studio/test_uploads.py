import base64
import hashlib
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from accounts.models import User
from groups.models import Creator
from library import services
from library.models import Bundle, File, Upload, UploadPart
from library.services import uploads
from library.storage import DiskStorage, StorageDown
from tests import factories

pytestmark = pytest.mark.django_db
ClientOf = Callable[[User | None], Client]
BASE = "/studio/anas-forge"


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "PART_SIZE", 4)
    monkeypatch.setattr(uploads, "MIB", 1)


@pytest.fixture
def bundle(creator: Creator) -> Bundle:
    bundle: Bundle = factories.BundleFactory.create(creator=creator, files=0, files__open=True)
    return bundle


@pytest.fixture
def client(owner: User, client_of: ClientOf) -> Client:
    return client_of(owner)


def create(client: Client, bundle: Bundle, path: object = "a.txt", size: object = 6) -> Any:
    return client.post(
        f"{BASE}/bundles/{bundle.pk}/uploads/",
        json.dumps({"path": path, "size": size}),
        content_type="application/json",
    )


def put(client: Client, upload: int, number: int, data: bytes, **headers: str) -> Any:
    address = f"{BASE}/uploads/{upload}/parts/{number}/"
    return client.put(address, data, content_type="application/octet-stream", headers=headers)


def test_a_file_is_sent_in_five_small_requests(client: Client, bundle: Bundle, now: Any) -> None:
    created = create(client, bundle, "parts\\a.txt")
    assert created.status_code == 201
    upload = created.json()["upload"]
    assert created.json() == {"upload": upload, "path": "parts/a.txt", "part_size": 4, "parts": 2}
    assert put(client, upload, 2, b"56").json() == {"number": 2}
    state = client.get(f"{BASE}/uploads/{upload}/").json()
    assert state == {"state": "open", "reason": "", "warning": "", "parts": [2]}
    early = client.post(f"{BASE}/uploads/{upload}/complete/")
    assert (early.status_code, early.json()["missing"]) == (409, [1])
    digest = base64.b64encode(hashlib.sha256(b"1234").digest()).decode()
    assert put(client, upload, 1, b"1234", **{"Content-Digest": f"sha-256=:{digest}:"}).status_code == 200
    assert client.post(f"{BASE}/uploads/{upload}/complete/").status_code == 202
    services.verify_upload(upload, now=now)
    assert client.get(f"{BASE}/uploads/{upload}/").json()["state"] == "done"
    assert File.objects.get().path == "parts/a.txt"


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        "null",
        '{"path": "a"}',
        '{"path": 5, "size": 5}',
        '{"path": "a.txt", "size": "5"}',
        "[" * 9999,
        '{"path": "a.txt", "size": 1e400}',
        "\xff",
    ],
)
def test_a_request_no_client_of_ours_makes_is_refused(client: Client, bundle: Bundle, body: str) -> None:
    response = client.post(f"{BASE}/bundles/{bundle.pk}/uploads/", body, content_type="application/json")
    assert response.status_code == 400
    assert not Upload.objects.exists()


@pytest.mark.parametrize(
    ("path", "size", "words"),
    [
        ("a\u0000.txt", 5, "invisible or control characters"),
        ("a.exe", 5, "is a program"),
        ("a.txt", 0, "is empty"),
        ("a.txt", True, None),
        ("a.txt", 10**30, "is larger than"),
        ("\ud800.txt", 5, "invisible or control characters"),
    ],
)
def test_a_file_that_cannot_be_given_is_refused_with_a_sentence(
    client: Client, bundle: Bundle, path: str, size: int, words: str | None
) -> None:
    response = create(client, bundle, path, size)
    if words:
        assert (response.status_code, response.json()["retry"]) == (422, False)
        assert words in response.json()["error"]
    else:
        assert response.status_code == 201


def test_a_part_that_lies_about_itself_is_refused(client: Client, bundle: Bundle) -> None:
    upload = create(client, bundle).json()["upload"]
    assert put(client, upload, 1, b"12345").status_code == 422
    assert put(client, upload, 2, b"5").status_code == 422
    assert put(client, upload, 3, b"1234").status_code == 422
    assert put(client, upload, 2**63, b"1234").status_code == 422
    damaged = put(client, upload, 1, b"1234", **{"Content-Digest": f"sha-256=:{'A' * 43}=:"})
    assert (damaged.status_code, damaged.json()["retry"]) == (409, True)
    assert put(client, upload, 1, b"1234", **{"Content-Digest": "md5=:x:"}).status_code == 400
    broken_off = {"wsgi.input": io.BytesIO(b"12"), "CONTENT_LENGTH": "4"}
    cut = client.generic("PUT", f"{BASE}/uploads/{upload}/parts/1/", **broken_off)  # type: ignore[arg-type]
    assert (cut.status_code, cut.json()["retry"]) == (409, True)
    assert (
        client.generic("PUT", f"{BASE}/uploads/{upload}/parts/1/", b"", CONTENT_LENGTH="").status_code == 411
    )
    assert (
        client.generic("PUT", f"{BASE}/uploads/{upload}/parts/1/", b"", CONTENT_LENGTH="-4").status_code
        == 411
    )
    assert client.post(f"{BASE}/uploads/{upload}/parts/1/").status_code == 405
    assert not UploadPart.objects.exists()


def test_a_store_that_is_down_asks_for_a_later_try(
    client: Client, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*args: object, **kwargs: object) -> None:
        raise StorageDown

    upload = create(client, bundle).json()["upload"]
    monkeypatch.setattr(DiskStorage, "put_part", down)
    response = put(client, upload, 1, b"1234")
    assert (response.status_code, response.json()["retry"]) == (503, True)


def test_cancelling_ends_it(client: Client, bundle: Bundle) -> None:
    upload = create(client, bundle).json()["upload"]
    address = f"{BASE}/uploads/{upload}/cancel/"
    assert client.post(address, headers={"Accept": "application/json"}).status_code == 200
    assert client.post(address, headers={"Accept": "application/json"}).status_code == 200
    assert put(client, upload, 1, b"1234").status_code == 410
    done = create(client, bundle, size=1).json()["upload"]
    put(client, done, 1, b"1")
    client.post(f"{BASE}/uploads/{done}/complete/")
    late = client.post(f"{BASE}/uploads/{done}/cancel/", headers={"Accept": "application/json"})
    assert late.status_code == 410


def test_nobody_else_reaches_an_upload(
    client: Client, bundle: Bundle, stranger: User, member: User, client_of: ClientOf
) -> None:
    upload = create(client, bundle).json()["upload"]
    sams = factories.BundleFactory.create(creator=stranger.staff_of.get().creator, files=0, files__open=True)
    for user in (stranger, member):
        other = client_of(user)
        assert create(other, bundle).status_code == 404
        assert put(other, upload, 1, b"1234").status_code == 404
        assert other.get(f"{BASE}/uploads/{upload}/").status_code == 404
        assert other.post(f"{BASE}/uploads/{upload}/complete/").status_code == 404
        assert other.post(f"{BASE}/uploads/{upload}/cancel/").status_code == 404
        assert other.post(f"{BASE}/bundles/{bundle.pk}/files/").status_code == 404
        assert other.get(f"/studio/sams-shop/uploads/{upload}/").status_code == 404
    assert create(client, sams).status_code == 404
    assert client_of(None).get(f"{BASE}/uploads/{upload}/").status_code == 302
    assert Upload.objects.get().state == "open"


def test_a_request_without_the_token_is_refused(owner: User, bundle: Bundle) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(owner)
    assert create(client, bundle).status_code == 403
    files = {"files": SimpleUploadedFile("a.txt", b"words")}
    assert client.post(f"{BASE}/bundles/{bundle.pk}/files/", files).status_code == 403
    assert not Upload.objects.exists()


def test_a_plain_form_brings_several_files(client: Client, bundle: Bundle, now: Any) -> None:
    files = [
        SimpleUploadedFile("a.txt", b"longer than a part"),
        SimpleUploadedFile("b.exe", b"x"),
        SimpleUploadedFile("c.txt", b"more"),
    ]
    response = client.post(f"{BASE}/bundles/{bundle.pk}/files/", {"files": files})
    assert response.status_code == 302
    assert response["Location"] == f"{BASE}/bundles/{bundle.pk}/"
    said = [str(message) for message in response.wsgi_request._messages]  # type: ignore[attr-defined]
    assert said == [
        "“b.exe” is a program. Programs and scripts cannot be given.",
        "2 files arrived and are being checked.",
    ]
    for upload in Upload.objects.all():
        assert services.verify_upload(upload.pk, now=now) == "done"
    assert list(File.objects.values_list("path", flat=True)) == ["a.txt", "c.txt"]


def test_a_plain_form_with_nothing_good_says_only_why(client: Client, bundle: Bundle) -> None:
    response = client.post(f"{BASE}/bundles/{bundle.pk}/files/", {"files": SimpleUploadedFile("b.exe", b"x")})
    said = [str(message) for message in response.wsgi_request._messages]  # type: ignore[attr-defined]
    assert said == ["“b.exe” is a program. Programs and scripts cannot be given."]


def test_a_plain_form_without_files_says_so(client: Client, bundle: Bundle) -> None:
    response = client.post(f"{BASE}/bundles/{bundle.pk}/files/", {})
    [said] = response.wsgi_request._messages  # type: ignore[attr-defined]
    assert str(said) == "Choose at least one file."


def test_a_plain_cancel_goes_back_to_the_bundle(client: Client, bundle: Bundle) -> None:
    upload = create(client, bundle, size=1).json()["upload"]
    response = client.post(f"{BASE}/uploads/{upload}/cancel/", headers={"Accept": "text/html"})
    assert (response.status_code, response["Location"]) == (302, f"{BASE}/bundles/{bundle.pk}/")
    done = create(client, bundle, size=1).json()["upload"]
    put(client, done, 1, b"1")
    client.post(f"{BASE}/uploads/{done}/complete/")
    late = client.post(f"{BASE}/uploads/{done}/cancel/", headers={"Accept": "text/html"})
    [said] = late.wsgi_request._messages  # type: ignore[attr-defined]
    assert str(said) == "“a.txt” has arrived already."
