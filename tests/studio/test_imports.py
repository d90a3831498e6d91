"""The pages of an import: from a file to members, and every refusal on the way."""

from collections.abc import Callable

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from groups import services
from groups.models import Contact, Group, Import, Membership
from studio.forms.imports import MappingForm
from tests import factories
from tests.studio.conftest import url

PATREON = (
    "Name,Email,Patron Status,Free Member,Tier,Patronage Since Date,Last Updated,User ID,Access Expiration\n"
    "Ana,ana@example.org,Active patron,No,Hobbyist,2026-01-02 10:00:00,2026-10-31 10:00:00,1,\n"
    "Ben,ben@example.org,Active patron,No,Collector,2026-01-02 10:00:00,2026-10-31 10:00:00,2,\n"
    "Cleo,cleo@example.org,Former patron,No,Collector,2026-01-02 10:00:00,2026-10-31 10:00:00,3,\n"
    "Dan,not an address,Active patron,No,Collector,2026-01-02 10:00:00,2026-10-31 10:00:00,4,\n"
)


def file_of(text: str, name: str = "patreon.csv") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, text.encode())


def open_file(studio: Client, group: Group, text: str = PATREON) -> Import:
    studio.post(url("open_import", group.pk), {"file": file_of(text)})
    return Import.objects.latest("pk")


def check(run: Import) -> None:
    """What the worker does once it is rung."""
    services.check_import(run.pk, now=timezone.now())


def apply(run: Import) -> None:
    services.apply_import(run.pk, now=timezone.now())


def test_an_export_goes_from_upload_to_members(
    studio: Client, patrons: Group, hobbyist: Group, collector: Group
) -> None:
    run = open_file(studio, patrons)
    chosen = studio.get(url("import", run.pk), follow=True).content.decode()
    assert "Recognised as: Patreon, 4 rows" in chosen
    assert "ana@example.org" in chosen
    studio.post(url("choose_mapping", run.pk), as_proposed(run))
    assert "Trying it out" in studio.get(url("import", run.pk)).content.decode()
    check(run)
    review = studio.get(url("import", run.pk)).content.decode()
    assert "1 person joins Patrons · Hobbyist" in review
    problems = studio.get(url("import", run.pk), {"part": "bad"}).content.decode()
    assert "not an address" in problems
    assert not Contact.objects.exists()
    studio.post(url("apply_import", run.pk), {"consent": "on"})
    apply(run)
    assert "2 joined" in studio.get(url("import", run.pk)).content.decode()
    assert set(Membership.objects.values_list("contact__name", "group__name")) == {
        ("Ana", "Hobbyist"),
        ("Ben", "Collector"),
    }


def as_proposed(run: Import) -> dict[str, object]:
    """What somebody sends who takes the form as it is proposed."""
    return {field.html_name: field.value() or "" for field in MappingForm(import_run=run)}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "This file is empty"),
        (b"PK\x03\x04 [Content_Types].xml xl/", "Excel workbook"),
        (b"Name,City\nAna,Rome\n", "No column of this file holds e-mail addresses"),
        (b"\x1f\x8b\x08", "compressed"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_words_and_not_kept(
    studio: Client, patrons: Group, content: bytes, sentence: str
) -> None:
    page = studio.post(url("open_import", patrons.pk), {"file": SimpleUploadedFile("list.csv", content)})
    assert sentence in page.content.decode()
    assert not Import.objects.exists()


def test_no_file_at_all_is_said(studio: Client, patrons: Group) -> None:
    assert "errorlist" in studio.post(url("open_import", patrons.pk), {}).content.decode()


def test_a_pasted_list_is_an_import(studio: Client, hobbyist: Group) -> None:
    studio.post(url("paste_list", hobbyist.pk), {"people": "a@example.org\nb@example.org; c@example.org"})
    run = Import.objects.get()
    page = studio.get(url("choose_mapping", run.pk)).content.decode()
    assert "3 rows" in page
    assert f'<option value="{hobbyist.pk}" selected>' in page


@pytest.mark.parametrize("people", ["", "   ", "nobody here"])
def test_a_pasted_list_without_an_address_is_refused(studio: Client, patrons: Group, people: str) -> None:
    assert "errorlist" in studio.post(url("paste_list", patrons.pk), {"people": people}).content.decode()
    assert not Import.objects.exists()


def test_other_columns_are_read_and_the_tiers_counted_anew(studio: Client, patrons: Group) -> None:
    run = open_file(studio, patrons)
    studio.post(url("choose_columns", run.pk), {"address": "Email", "name": "Tier"})
    run.refresh_from_db()
    assert run.mapping["columns"] == {"address": "Email", "name": "Tier"}
    assert "Skip these people" not in studio.get(url("choose_mapping", run.pk)).content.decode()


def test_a_group_that_is_not_theirs_cannot_be_a_target(
    studio: Client, patrons: Group, stranger: object
) -> None:
    foreign = factories.GroupFactory.create()
    run = open_file(studio, patrons)
    page = studio.post(
        url("choose_mapping", run.pk), {"statuses": ["active patron"], "tier-0": foreign.pk, "tier-1": "skip"}
    )
    assert "errorlist" in page.content.decode()
    run.refresh_from_db()
    assert run.state == "opened"


@pytest.mark.parametrize("as_of", ["yesterday", "9999-12-31T00:00", "0001-01-01T00:00"])
def test_an_as_of_that_is_no_time_is_refused(studio: Client, patrons: Group, as_of: str) -> None:
    run = open_file(studio, patrons)
    page = studio.post(url("choose_mapping", run.pk), {"statuses": ["active patron"], "as_of": as_of})
    assert "errorlist" in page.content.decode()


def checked(studio: Client, patrons: Group, text: str = PATREON) -> Import:
    run = open_file(studio, patrons, text)
    target = {f"tier-{number}": patrons.pk for number in range(3)}
    studio.post(url("choose_mapping", run.pk), {"statuses": ["active patron"], **target})
    check(run)
    run.refresh_from_db()
    assert run.state == "checked"
    return run


def test_nothing_is_applied_without_consent(studio: Client, patrons: Group) -> None:
    run = checked(studio, patrons)
    assert "errorlist" in studio.post(url("apply_import", run.pk), {}).content.decode()
    run.refresh_from_db()
    assert run.state == "checked"


def test_ending_more_than_a_third_asks_for_a_typed_word(studio: Client, patrons: Group) -> None:
    run = checked(studio, patrons)
    studio.post(url("apply_import", run.pk), {"consent": "on"})
    apply(run)
    shorter = checked(studio, patrons, "".join(PATREON.replace("2026-10", "2026-11").splitlines(True)[:2]))
    review = studio.get(url("import", shorter.pk), {"part": "gone"}).content.decode()
    assert "Ben" in review
    assert "To confirm, type “Patrons”" in review
    end = {"consent": "on", "gone": "end", "gone_on": timezone.localdate().isoformat()}
    asked = studio.post(url("apply_import", shorter.pk), {**end, "typed": "no"}).content.decode()
    assert "would end 1 of 2 memberships" in asked
    assert Membership.objects.filter(ended_at=None).count() == 2
    studio.post(url("apply_import", shorter.pk), {**end, "typed": "Patrons"})
    apply(shorter)
    assert Membership.objects.filter(ended_at=None).count() == 1


@pytest.mark.parametrize("day", ["", "never", "9999-12-31", "0001-01-01"])
def test_ending_on_no_day_is_refused(studio: Client, patrons: Group, day: str) -> None:
    run = checked(studio, patrons)
    studio.post(url("apply_import", run.pk), {"consent": "on"})
    apply(run)
    shorter = checked(studio, patrons, "".join(PATREON.replace("2026-10", "2026-11").splitlines(True)[:2]))
    said = {"consent": "on", "gone": "end", "gone_on": day, "typed": "Patrons"}
    assert "errorlist" in studio.post(url("apply_import", shorter.pk), said).content.decode()
    assert Membership.objects.filter(ended_at=None).count() == 2


def test_the_same_file_again_has_nothing_to_do(studio: Client, patrons: Group) -> None:
    run = checked(studio, patrons)
    studio.post(url("apply_import", run.pk), {"consent": "on"})
    apply(run)
    again = checked(studio, patrons)
    assert "Nothing to do" in studio.get(url("import", again.pk)).content.decode()


def test_an_unfinished_import_answers_htmx_with_the_moving_part_only(studio: Client, patrons: Group) -> None:
    run = open_file(studio, patrons)
    studio.post(
        url("choose_mapping", run.pk), {"statuses": ["active patron"], "tier-0": patrons.pk, "tier-1": "skip"}
    )
    moving = studio.get(url("import", run.pk), headers={"HX-Request": "true"})
    assert b"<html" not in moving.content
    assert b"<progress" in moving.content
    check(run)
    over = studio.get(url("import", run.pk), headers={"HX-Request": "true"})
    assert over.headers["HX-Refresh"] == "true"


def test_the_review_asks_the_same_for_one_row_and_for_three(
    studio: Client, patrons: Group, queries_of: Callable[[str], int]
) -> None:
    lines = PATREON.splitlines(True)
    one = checked(studio, patrons, "".join(lines[:2]))
    three = checked(
        studio, patrons, "".join(lines[:3]) + lines[2].replace("ben", "eve").replace(",2,", ",5,")
    )
    assert queries_of(url("import", one.pk)) == queries_of(url("import", three.pk))
