import io
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.core.files.storage import default_storage
from django.test import Client
from PIL import Image, PngImagePlugin

import library.shrink
from accounts.models import User
from library import services
from library.models import Bundle
from library.services import covers

pytestmark = pytest.mark.django_db


def picture(
    size: tuple[int, int] = (60, 40), form: str = "PNG", mode: str = "RGB", **options: object
) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size).save(out, form, **options)
    return out.getvalue()


def with_gps() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x8825] = {1: "N", 2: (52.0, 31.0, 12.0)}
    return picture(form="JPEG", exif=exif)


def bomb(height: int) -> bytes:
    """Millions of black points in ten kilobytes."""
    return picture((9_000, height), mode="1")


def animated() -> bytes:
    out = io.BytesIO()
    frames = [Image.new("RGB", (20, 20), (n % 256, 0, 0)) for n in range(300)]
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    return out.getvalue()


def kept(bundle: Bundle) -> Image.Image:
    bundle.refresh_from_db()
    with default_storage.open(bundle.cover.name) as file:
        image = Image.open(io.BytesIO(file.read()))
        image.load()
    return image


@pytest.mark.parametrize(
    "make",
    [
        picture,
        partial(picture, form="JPEG"),
        partial(picture, form="WEBP"),
        partial(picture, form="GIF"),
        animated,
    ],
)
def test_a_picture_becomes_a_cover(bundle: Bundle, make: Callable[[], bytes]) -> None:
    services.set_cover(bundle, io.BytesIO(make()))
    image = kept(bundle)
    assert image.format == "WEBP"
    assert getattr(image, "n_frames", 1) == 1


def test_a_large_picture_is_made_small_and_keeps_its_shape(bundle: Bundle) -> None:
    services.set_cover(bundle, io.BytesIO(picture((4000, 1000))))
    assert kept(bundle).size == (1200, 300)


def test_what_is_clear_stays_clear(bundle: Bundle) -> None:
    services.set_cover(bundle, io.BytesIO(picture(mode="RGBA")))
    assert kept(bundle).mode == "RGBA"


def test_where_it_was_taken_is_forgotten_and_it_stands_upright(bundle: Bundle) -> None:
    services.set_cover(bundle, io.BytesIO(with_gps()))
    image = kept(bundle)
    assert image.size == (40, 60)
    assert not image.getexif()
    assert "icc_profile" not in image.info


def test_a_second_cover_replaces_the_first(bundle: Bundle, settings: LazySettings) -> None:
    services.set_cover(bundle, io.BytesIO(picture()))
    first = bundle.cover_url
    services.set_cover(bundle, io.BytesIO(picture((30, 30))))
    assert bundle.cover_url != first
    assert len(list(Path(settings.STORAGES["default"]["OPTIONS"]["location"]).glob("covers/*"))) == 1


def itxt_bomb() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("x", "a" * 80_000_000, zip=True)
    return picture(pnginfo=info)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: b"", "not a picture"),
        (lambda: b"<svg onload=alert(1)>", "not a picture"),
        (lambda: picture(form="JPEG")[:-200], "not a picture"),
        (lambda: picture(form="TIFF"), "not a picture"),
        (lambda: picture(form="ICO"), "not a picture"),
        (itxt_bomb, "not a picture"),
        (partial(bomb, 5_000), "more than 40 million points"),
        (partial(bomb, 9_000), "more than 40 million points"),
        (lambda: b"x" * (covers.MAX_BYTES + 1), "larger than 20 MB"),
    ],
)
def test_what_is_no_good_picture_is_refused_and_the_old_one_stays(
    bundle: Bundle, make: Callable[[], bytes], why: str
) -> None:
    services.set_cover(bundle, io.BytesIO(picture()))
    before = bundle.cover.name
    with pytest.raises(services.PictureRefused, match=why):
        services.set_cover(bundle, io.BytesIO(make()))
    bundle.refresh_from_db()
    assert bundle.cover.name == before


def test_a_picture_that_takes_for_ever_is_given_up(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(covers, "SECONDS", 0.001)
    with pytest.raises(services.PictureRefused, match="too long"):
        services.set_cover(bundle, io.BytesIO(picture()))


def test_the_decoder_has_little_memory_and_writes_no_file() -> None:
    script = (
        "import resource, runpy, sys; sys.argv = ['shrink'];"
        f"main = runpy.run_path({library.shrink.__file__!r})['main']; main();"
        "print(resource.getrlimit(resource.RLIMIT_AS)[1], resource.getrlimit(resource.RLIMIT_FSIZE)[1])"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], input=b"", capture_output=True, check=False)
    assert done.stdout.split() == [str(512 * 1024**2).encode(), b"0"]


def test_the_picture_itself_is_shrunk_as_the_process_does() -> None:
    small = Image.open(io.BytesIO(library.shrink.shrink(picture((2400, 1200)))))
    assert small.size == (1200, 600)


def test_a_cover_is_shown_to_those_who_may_see_it_only(
    bundle: Bundle,
    owner: User,
    member: User,
    stranger: User,
    now: datetime,
    client_of: Callable[[User | None], Client],
) -> None:
    assert bundle.cover_url == ""
    address = f"/library/covers/{bundle.pk}/"
    assert client_of(owner).get(address).status_code == 404
    services.set_cover(bundle, io.BytesIO(picture()))
    users = User.objects.filter(pk=member.pk).values_list("pk", flat=True)
    services.add_holdings(
        users, versions=list(bundle.versions.all()), origin_key="x", title="", group_name="", given_at=now
    )
    for user, status in ((owner, 200), (member, 200), (stranger, 404), (None, 302)):
        response = client_of(user).get(bundle.cover_url)
        assert response.status_code == status
    response = client_of(member).get(bundle.cover_url)
    assert response["Content-Type"] == "image/webp"
    assert response["Cache-Control"].startswith("private")
    assert response.content[8:12] == b"WEBP"
