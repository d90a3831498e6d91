"""The admin's addresses: nothing is spelled out by look-ups, and nonsense is no server error."""

from collections.abc import Callable
from importlib import import_module

import pytest
from django.contrib import admin
from django.test import Client

from accounts.models import User
from accounts.services import post_letter

pytestmark = pytest.mark.django_db

# Importing the addresses takes out of the admin what other apps put there.
import_module("config.urls")
LISTS = [f"/admin/{model._meta.app_label}/{model._meta.model_name}/" for model in admin.site._registry]
NONSENSE = [
    "o=a.b",
    "p=-1",
    "p=9999999999999999999",
    "e=1",
    "all=x",
    "q=%00%f0",
    "_facets=x",
    "_to_field=password",
    "state__in=%5B%5D",
    "state__regex=%28%28",
    "state__exact=%00",
    "reason__exact=%00",
    "verb__exact=%00",
    "creator__id__exact=%00",
    "creator__id__exact=99999999999999999999",
    "state__isnull=banana",
    "created_at__gte=banana",
    "id__exact=abc",
    "pk__in=1,b",
    "nothing__at__all=1",
    "approved_at__isempty=banana",
    "is_active__exact=banana",
]


@pytest.fixture
def site_admin(client_of: Callable[[User | None], Client]) -> Client:
    browser = client_of(User.objects.create_superuser("root@example.org", "x"))
    browser.raise_request_exception = False
    return browser


@pytest.mark.parametrize("listing", LISTS)
def test_nonsense_is_answered_and_breaks_nothing(site_admin: Client, listing: str) -> None:
    for query in NONSENSE:
        assert site_admin.get(f"{listing}?{query}").status_code in {200, 302, 400}, query


@pytest.mark.parametrize(
    "look_up",
    [
        "accounts/user/?password__startswith=md5",
        "accounts/user/?emailaddress__user__password__startswith=md5",
        "accounts/letter/?code__startswith=1",
        "accounts/letter/?text__contains=1",
        "accounts/auditevent/?actor__password__startswith=md5",
        "groups/contact/?account__password__startswith=md5",
    ],
)
def test_nothing_secret_is_spelled_out_by_a_look_up(site_admin: Client, look_up: str) -> None:
    assert site_admin.get(f"/admin/{look_up}").status_code == 400


def test_what_a_page_offers_filters(site_admin: Client, now: object) -> None:
    post_letter("code", "a@b.example", subject="s", text="t", dedupe_key="k", now=now)  # type: ignore[arg-type]
    for look_up in ("letter/?state__exact=waiting", "user/?is_active__exact=1", "letter/?q=a@b"):
        assert site_admin.get(f"/admin/accounts/{look_up}").status_code == 200
