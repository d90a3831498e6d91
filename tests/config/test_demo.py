"""The demo: files that programs open, and a creator whose story is told once."""

import io
import struct
import zipfile
from collections import Counter
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from PIL import Image

from accounts.models import User
from config.demo import build, goods, people
from config.demo.pictures import pdf, picture, png
from config.demo.shapes import Mesh, gear, knot, stl, three_mf, tower, vase
from distribution.models import Grant, Release
from groups.models import Contact, Membership
from library.models import Download, File, Holding
from messaging.models import Delivery, Message


@pytest.mark.parametrize("mesh", [gear(12), vase(lobes=6, twist=0.2), knot(2, 3), tower()], ids=len)
def test_a_model_is_closed_so_that_a_slicer_knows_inside_from_outside(mesh: Mesh) -> None:
    walked: Counter[tuple[object, object]] = Counter()
    for triangle in mesh:
        a, b, c = (tuple(round(x, 6) + 0.0 for x in point) for point in triangle)
        for edge in ((a, b), (b, c), (c, a)):
            walked[edge] += 1
    assert all(number == walked[end, start] for (start, end), number in walked.items() if start != end)


def test_an_stl_says_its_triangles_and_has_them() -> None:
    mesh = gear(12)
    written = stl(mesh, "gear")
    assert struct.unpack_from("<I", written, 80) == (len(mesh),)
    assert len(written) == 84 + 50 * len(mesh)


def test_a_3mf_is_a_package_of_parts_that_name_one_another() -> None:
    image = png(picture([(gear(12), (200, 100, 50))], ground=(240, 240, 240), size=(64, 48)))
    with zipfile.ZipFile(io.BytesIO(three_mf(gear(12), "Gear", image))) as package:
        links = ElementTree.fromstring(package.read("_rels/.rels"))
        for link in links:
            assert package.read(link.attrib["Target"].lstrip("/"))
        model = ElementTree.fromstring(package.read("3D/3dmodel.model"))
        assert len(list(model.iter())) > 1000
        assert Image.open(package.open("Metadata/thumbnail.png")).size == (64, 48)


def test_a_pdf_finds_every_object_where_it_says() -> None:
    written = pdf("Rules", [("One", ["Words (in brackets) \\ and – more."]), ("Two", ["x " * 200])])
    start = int(written.rpartition(b"startxref\n")[2].split()[0])
    table = written[start:].splitlines()
    for number, line in enumerate(table[3 : 2 + int(table[1].split()[1])], 1):
        assert written[int(line[:10]) :].startswith(b"%d 0 obj" % number)


def test_made_up_people_have_addresses_of_their_own() -> None:
    addresses = [address for _name, address, _tier in people.everyone()]
    assert len(set(addresses)) == len(addresses) == 60
    assert all(address.endswith((".org", ".net", ".com")) for address in addresses)


@pytest.fixture
def one_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every bundle is the smallest one: drawing them all takes seconds."""
    made = goods.knots()
    for name in ("GEARS", "TOWER", "RULES", "VASES", "MOON", "KNOTS"):
        thing: goods.Goods = getattr(goods, name)
        monkeypatch.setattr(goods, name, goods.Goods(thing.title, thing.description, lambda: made))


def rows() -> dict[str, int]:
    models = (User, Contact, Membership, Release, Grant, Message, Delivery, Holding, File, Download)
    return {model.__name__: model.objects.count() for model in models}


@pytest.mark.django_db
def test_the_demo_tells_its_story_once_however_often_it_is_built(
    one_bundle: None, settings: LazySettings, tmp_path: Path, now: datetime
) -> None:
    settings.EMAIL_BACKEND, settings.MAILBOX = "config.mailbox.MailboxBackend", True
    settings.MAILBOX_DIR = tmp_path / "mailbox"
    assert build.is_wanted()
    build.build(now=now)
    assert not build.is_wanted()
    told = rows()
    assert Release.objects.filter(state=Release.State.PUBLISHED).count() == 3
    assert Release.objects.filter(state=Release.State.DRAFT).count() == 1
    assert set(Delivery.objects.values_list("state", flat=True)) == {Delivery.State.ACCEPTED}
    assert len(list(settings.MAILBOX_DIR.glob("*.eml"))) == told["Delivery"]
    assert Grant.objects.filter(redeemed_at__isnull=False).exists()
    assert Holding.objects.filter(entry__user__email=build.MEMBER_ADDRESS).exists()
    kinds = Membership.objects.filter(ended_at=None).values_list("group__kind", flat=True)
    assert set(kinds) == {"patrons", "tribers", "pioneers"}
    build.build(now=now)
    assert rows() == told


@pytest.mark.django_db
def test_where_somebody_is_already_no_demo_is_wanted(member: User) -> None:
    assert not build.is_wanted()


def test_where_mail_goes_out_no_demo_is_made(settings: LazySettings) -> None:
    settings.MAILBOX = False
    with pytest.raises(CommandError, match="made-up people"):
        call_command("demo")
