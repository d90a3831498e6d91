"""The limit that a form states is the one that speaks, in words, and what was typed is kept."""

from typing import Any

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.forms import Form
from django.test import Client

from groups.models import Creator, Group, Import
from studio.forms.bundles import BundleForm
from studio.forms.groups import PasteForm
from studio.forms.releases import ComposeForm
from tests import factories
from tests.studio.conftest import url

pytestmark = pytest.mark.django_db

# One letter that a browser writes in twelve bytes: four of UTF-8, each as %F0.
WIDEST = "\U0001f600"
FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize("form", [PasteForm, BundleForm, ComposeForm])
def test_what_a_form_takes_fits_into_a_request(form: type[Form]) -> None:
    fields: dict[str, Any] = form.base_fields
    stated = sum(getattr(field, "max_length", None) or 1_000 for field in fields.values())
    assert stated * len("%F0%9F%98%80") < settings.DATA_UPLOAD_MAX_MEMORY_SIZE


def test_many_addresses_under_the_stated_limit_are_taken(studio: Client, patrons: Group) -> None:
    people = "\n".join(f"{WIDEST * 8} <p{n}@example.net>" for n in range(33_000))
    assert len(people) < 1_000_000
    answer = studio.post(url("paste_list", patrons.pk), {"people": people})
    assert answer.status_code == 302
    assert Import.objects.get().survey["rows"] == 33_000


def test_more_than_the_stated_limit_is_refused_in_words_and_kept(studio: Client, patrons: Group) -> None:
    people = WIDEST * 1_000_001
    page = studio.post(url("paste_list", patrons.pk), {"people": people}).content.decode()
    assert "at most 1000000 characters" in page
    assert people in page
    assert not Import.objects.exists()


@pytest.mark.parametrize("form", ["paste_list", "create_bundle", "settings", "create_group", "compose"])
def test_no_browser_cuts_what_is_pasted_without_a_word(
    studio: Client, patrons: Group, creator: Creator, form: str
) -> None:
    rows = {"paste_list": [patrons.pk], "compose": [factories.ReleaseFactory.create(creator=creator).pk]}
    shown = studio.get(url(form, *rows.get(form, []))).content.decode()
    assert "<textarea" in shown or '<input type="text"' in shown
    assert "maxlength" not in shown


def test_what_no_page_takes_is_refused_in_words(studio: Client, patrons: Group) -> None:
    body = b"people=" + b"a" * settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    answer = studio.post(url("paste_list", patrons.pk), body, content_type=FORM)
    assert answer.status_code == 400
    assert "more than any page here takes" in answer.content.decode()
    many = "&".join(f"f{n}=" for n in range(settings.DATA_UPLOAD_MAX_NUMBER_FIELDS + 1))
    answer = studio.post(url("paste_list", patrons.pk), many, content_type=FORM)
    assert "more than any page here takes" in answer.content.decode()


def test_more_files_than_a_page_takes_are_refused_in_words(studio: Client, patrons: Group) -> None:
    files = {f"f{n}": SimpleUploadedFile(f"{n}.csv", b"x") for n in range(101)}
    assert len(files) > settings.DATA_UPLOAD_MAX_NUMBER_FILES
    answer = studio.post(url("open_import", patrons.pk), files)
    assert answer.status_code == 400
    assert "more than any page here takes" in answer.content.decode()
