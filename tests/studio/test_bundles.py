"""The pages of bundles and their files."""

import io
from collections.abc import Callable

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from PIL import Image

from groups.models import Creator
from library.models import Bundle, File
from tests import factories
from tests.studio.conftest import fill_in, hidden_in, url


@pytest.fixture
def bundle(creator: Creator) -> Bundle:
    return factories.BundleFactory.create(creator=creator, title="Dragon", files=2)


def names(bundle: Bundle) -> set[str]:
    newest = bundle.versions.order_by("-number").first()
    assert newest
    return set(newest.files.values_list("path", flat=True))


def picture() -> SimpleUploadedFile:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), "teal").save(buffer, "PNG")
    return SimpleUploadedFile("cover.png", buffer.getvalue())


def test_without_a_bundle_the_page_says_what_one_is(studio: Client) -> None:
    assert "No bundles yet" in studio.get(url("bundles")).content.decode()


def test_a_bundle_is_made_and_asks_for_its_files(studio: Client) -> None:
    answer = studio.post(url("create_bundle"), {"title": "Dragon"}, follow=True).content.decode()
    assert "Drop files or folders here" in answer
    assert "No files yet" in answer


@pytest.mark.parametrize("title", ["", "  ", "x" * 121])
def test_a_bundle_without_a_usable_title_is_not_made(studio: Client, title: str) -> None:
    assert "errorlist" in studio.post(url("create_bundle"), {"title": title}).content.decode()
    assert not Bundle.objects.exists()


def test_a_bundles_page_lists_its_files_versions_and_holders(studio: Client, bundle: Bundle) -> None:
    page = studio.get(url("bundle", bundle.pk)).content.decode()
    assert "part-0.stl" in page
    assert "Version 1" in page
    assert "Nobody yet." in page


def test_what_is_said_about_a_bundle_is_saved_and_shown_safely(studio: Client, bundle: Bundle) -> None:
    fill_in(
        studio,
        url("edit_bundle", bundle.pk),
        {"title": "Dragon", "description": "**Big** <script>alert(1)</script>", "licence": "Yours to print"},
    )
    page = studio.get(url("bundle", bundle.pk)).content.decode()
    assert "<strong>Big</strong>" in page
    assert "<script>alert" not in page


def test_the_description_is_shown_while_it_is_typed_and_not_saved(studio: Client, bundle: Bundle) -> None:
    answer = studio.post(
        url("edit_bundle", bundle.pk), {"description": "*hi*"}, headers={"HX-Request": "true"}
    )
    assert answer.content.decode().strip() == "<p><em>hi</em></p>"
    bundle.refresh_from_db()
    assert bundle.description == ""


def test_a_cover_is_taken_and_what_is_no_picture_is_refused(studio: Client, bundle: Bundle) -> None:
    studio.post(url("set_cover", bundle.pk), {"picture": picture()})
    bundle.refresh_from_db()
    assert bundle.cover
    before = bundle.cover.name
    for picture_ in [SimpleUploadedFile("a.png", b"<svg onload=alert(1)>"), ""]:
        page = studio.post(url("set_cover", bundle.pk), {"picture": picture_}, follow=True).content.decode()
        assert "toast bad" in page
    bundle.refresh_from_db()
    assert bundle.cover.name == before


def test_a_released_file_is_renamed_in_the_next_version_only(studio: Client, bundle: Bundle) -> None:
    file = File.objects.get(path="part-0.stl")
    fill_in(studio, url("rename_file", file.pk), {"path": "parts/lid.stl"})
    assert names(bundle) == {"parts/lid.stl", "part-1.stl"}
    file.refresh_from_db()
    assert file.path == "part-0.stl"


@pytest.mark.parametrize(
    "path", ["", "part-1.stl", "PART-1.STL", "CON.stl", "a\x00b.stl", "a\u202eb.stl", "x" * 501]
)
def test_a_name_that_no_disk_should_have_is_refused(studio: Client, bundle: Bundle, path: str) -> None:
    file = File.objects.get(path="part-0.stl")
    assert "errorlist" in fill_in(studio, url("rename_file", file.pk), {"path": path}).content.decode()
    assert names(bundle) == {"part-0.stl", "part-1.stl"}


def test_a_file_that_somebody_else_renamed_meanwhile_keeps_that_name(
    studio: Client, creator: Creator
) -> None:
    open_one = factories.BundleFactory.create(creator=creator, files__open=True)
    file = File.objects.filter(version__bundle=open_one).first()
    assert file
    address = url("rename_file", file.pk)
    mine = {**hidden_in(studio.get(address).content.decode()), "path": "mine.stl"}
    fill_in(studio, address, {"path": "theirs.stl"})
    assert "theirs.stl" in studio.post(address, mine).content.decode()
    file.refresh_from_db()
    assert file.path == "theirs.stl"


def test_a_file_is_removed_after_a_question(studio: Client, bundle: Bundle) -> None:
    file = File.objects.get(path="part-0.stl")
    assert "Version 1 keeps it" in studio.get(url("remove_file", file.pk)).content.decode()
    assert names(bundle) == {"part-0.stl", "part-1.stl"}
    studio.post(url("remove_file", file.pk))
    assert names(bundle) == {"part-1.stl"}
    again = studio.post(url("remove_file", file.pk), follow=True).content.decode()
    assert "changed meanwhile" in again


def test_a_bundle_is_archived_after_a_question(studio: Client, bundle: Bundle) -> None:
    assert "Nobody holds it" in studio.get(url("archive_bundle", bundle.pk)).content.decode()
    studio.post(url("archive_bundle", bundle.pk))
    assert "Dragon" not in studio.get(url("bundles")).content.decode().replace("“Dragon” is archived", "")
    assert "Dragon" in studio.get(url("bundles") + "?archived").content.decode()
    page = studio.get(url("bundle", bundle.pk)).content.decode()
    assert "Archived: its files stay" in page
    assert "Drop files" not in page
    assert studio.get(url("edit_bundle", bundle.pk)).status_code == 404


def test_lists_ask_the_same_for_one_and_for_three(
    creator: Creator, bundle: Bundle, queries_of: Callable[[str], int]
) -> None:
    three = factories.BundleFactory.create(creator=creator, files=4)
    assert queries_of(url("bundle", bundle.pk)) == queries_of(url("bundle", three.pk))
    first = queries_of(url("bundles"))
    factories.BundleFactory.create(creator=creator)
    assert queries_of(url("bundles")) == first
