"""The frame every page stands in, the doors of the house, and the pages shown when something is wrong."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from django import forms
from django.contrib.auth.models import AnonymousUser
from django.contrib.staticfiles import finders
from django.core.paginator import Paginator
from django.template.loader import render_to_string
from django.test import Client, RequestFactory
from django.urls import reverse

from accounts.models import User
from groups.models import Creator

OPEN_PAGES = [
    "/",
    "/accounts/login/",
    "/accounts/login/code/",
    "/accounts/signup/",
    "/accounts/password/reset/",
]


class NameForm(forms.Form):
    name = forms.CharField(help_text="What your members see.")
    note = forms.CharField(required=False)
    agree = forms.BooleanField(label="They agreed")


def weight(client: Client, url: str) -> int:
    """Bytes of the page and of every stylesheet, script and icon it names, none of them compressed."""
    html = client.get(url).content
    named = set(re.findall(r'(?:href|src)="/static/([^"#]+)', html.decode()))
    found = [finders.find(name) for name in named]
    assert None not in found
    return len(html) + sum(Path(path).stat().st_size for path in found if path)


@pytest.mark.django_db
def test_a_stranger_at_the_front_door_reads_what_this_is_and_finds_both_doors(client: Client) -> None:
    page = client.get("/").content.decode()
    assert "Give your people what is theirs." in page
    assert 'href="/accounts/login/"' in page
    assert 'href="/accounts/signup/?next=/studio/"' in page


@pytest.mark.django_db
@pytest.mark.parametrize("url", OPEN_PAGES)
def test_an_open_page_weighs_less_than_100_kb_even_uncompressed(client: Client, url: str) -> None:
    assert weight(client, url) < 100_000


@pytest.mark.django_db
@pytest.mark.parametrize("url", OPEN_PAGES)
def test_an_open_page_has_one_heading_a_main_part_and_a_way_to_skip_to_it(client: Client, url: str) -> None:
    page = client.get(url).content.decode()
    assert page.count("<h1") == 1
    assert 'href="#content"' in page
    assert '<main id="content"' in page


def test_a_member_is_shown_the_library_and_no_studio(
    member: User, client_of: Callable[[User | None], Client]
) -> None:
    page = client_of(member).get("/accounts/email/").content.decode()
    assert 'href="/library/"' in page
    assert "Become a creator" in page
    assert ">Admin<" not in page


def test_an_owner_is_shown_the_way_to_her_own_studio_only(
    owner: User, creator: Creator, stranger: User, client_of: Callable[[User | None], Client]
) -> None:
    page = client_of(owner).get("/accounts/email/").content.decode()
    assert 'href="/studio/anas-forge/"' in page
    assert "sams-shop" not in page


@pytest.mark.django_db
def test_the_code_page_has_one_big_field_that_phones_fill_by_themselves(client: Client) -> None:
    page = client.post("/accounts/signup/", {"email": "new@example.org"}, follow=True).content.decode()
    assert "new@example.org" in page
    assert re.search(r'name="code"[^>]*inputmode="numeric"[^>]*autocomplete="one-time-code"', page)


@pytest.mark.django_db
def test_a_wrong_code_is_answered_beside_the_field(client: Client) -> None:
    client.post("/accounts/signup/", {"email": "newer@example.org"}, follow=True)
    page = client.post("/accounts/confirm-email/", {"code": "000000"}).content.decode()
    assert 'aria-invalid="true" aria-describedby="id_code_error"' in page
    assert 'id="id_code_error"' in page


@pytest.mark.django_db
def test_a_page_that_is_not_there_says_so_in_plain_words(client: Client) -> None:
    answer = client.get("/nothing/here/")
    assert answer.status_code == 404
    assert "There is nothing here for you" in answer.content.decode()


@pytest.mark.django_db
def test_a_form_without_its_token_is_refused_in_plain_words() -> None:
    answer = Client(enforce_csrf_checks=True).post("/accounts/login/", {"login": "a@example.org"})
    assert answer.status_code == 403
    assert "That page was open too long" in answer.content.decode()


@pytest.mark.parametrize("name", ["400.html", "403.html", "500.html"])
def test_an_error_page_needs_neither_database_nor_request(name: str) -> None:
    assert "<h1>" in render_to_string(name)


def test_a_field_is_tied_to_its_label_its_help_and_its_error() -> None:
    html = str(NameForm({"name": "", "agree": "on"}))
    assert '<label for="id_name">' in html
    assert 'aria-describedby="id_name_helptext id_name_error"' in html
    assert 'id="id_name_helptext"' in html
    assert re.search(r'<ul class="errorlist" id="id_name_error"', html)


def test_a_field_that_may_stay_empty_says_so() -> None:
    html = str(NameForm())
    assert html.count("(optional)") == 1


def test_turning_the_page_keeps_the_other_parameters() -> None:
    request = RequestFactory().get("/", {"q": "ana", "page": "2"})
    request.user = AnonymousUser()
    html = render_to_string("components/pager.html", {"page": Paginator(range(100), 20).page(2)}, request)
    assert 'href="?q=ana&amp;page=3"' in html
    assert "Page 2 of 5" in html


def test_a_cadence_shows_as_many_slots_as_there_are_and_says_the_numbers() -> None:
    html = render_to_string("components/meter.html", {"used": 2, "cap": 6, "window": "in 30 days"})
    assert html.count('class="pip') - html.count('class="pips') == 6
    assert html.count("pip used") == 2
    assert "2 of 6 in 30 days" in html


def test_the_help_of_a_state_is_its_words_and_its_sign() -> None:
    html = render_to_string("components/badge.html", {"state": "unknown", "label": "in doubt"})
    assert "In doubt" in html
    assert "#question" in html


@pytest.mark.parametrize(
    "name", ["account_login", "account_signup", "account_reset_password", "account_email"]
)
def test_an_address_is_called_the_same_on_every_page(
    client_of: Callable[[User | None], Client], member: User, name: str
) -> None:
    page = client_of(member if name == "account_email" else None).get(reverse(name)).content.decode()
    labels = re.findall(r'<label for="(?:id_|code_)(?:email|login)">([^<]*)</label>', page)
    assert set(labels) == {"E-mail address"}
    assert "placeholder" not in page


@pytest.mark.parametrize(("password", "goes"), [("a long one of mine", 302), ("another", 200)])
def test_whoever_set_a_password_signs_in_with_it(
    client: Client, member: User, password: str, goes: int
) -> None:
    member.set_password("a long one of mine")
    member.save()
    page = client.get(reverse("account_login")).content.decode()
    assert page.count('type="password"') == 1
    answer = client.post(reverse("account_login"), {"login": "  MIA@example.org", "password": password})
    assert answer.status_code == goes
    assert ("_auth_user_id" in client.session) == (goes == 302)
    assert ("do not belong together" in answer.content.decode()) == (goes == 200)
