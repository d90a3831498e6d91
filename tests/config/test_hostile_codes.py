"""A code of six digits is safe only because it can be guessed three times, and three times is meant."""

from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from accounts.models import Letter, User

LOGIN, CONFIRM = "/accounts/login/code/", "/accounts/login/code/confirm/"


@pytest.fixture(autouse=True)
def _nobody_has_asked_yet() -> None:
    """Asking for codes has limits of its own, kept in the cache."""
    cache.clear()


def begin(browser: Client, member: User) -> str:
    browser.post(LOGIN, {"email": member.email})
    return Letter.objects.latest("pk").code


def another(code: str, by: int = 1) -> str:
    return f"{(int(code) + by) % 1_000_000:06d}"


def begun_at_once(browser: Client, before: dict[str, Any]) -> None:
    """The session as each of many requests reads it that arrive together: none has counted the others."""
    session = browser.session
    session.update(before)
    session.save()


def test_guesses_at_once_are_counted_together(client: Client, member: User) -> None:
    code = begin(client, member)
    before = dict(client.session)
    for by in range(1, 4):
        assert "Incorrect code" in client.post(CONFIRM, {"code": another(code, by)}).text
        begun_at_once(client, before)
    assert "Too many" in client.post(CONFIRM, {"code": another(code, 4)}).text
    begun_at_once(client, before)
    assert client.post(CONFIRM, {"code": code}).status_code == 200
    assert "_auth_user_id" not in client.session


def test_two_wrong_guesses_do_not_keep_anybody_out(client: Client, member: User) -> None:
    code = begin(client, member)
    client.post(CONFIRM, {"code": another(code)})
    client.post(CONFIRM, {"code": another(code, 2)})
    client.post(CONFIRM, {"code": code})
    assert client.session["_auth_user_id"] == str(member.pk)


def test_a_new_code_can_be_guessed_anew(client: Client, member: User) -> None:
    for _ in range(2):
        client.post(CONFIRM, {"code": another(begin(client, member))})
    client.post(CONFIRM, {"code": begin(client, member)})
    assert client.session["_auth_user_id"] == str(member.pk)


@pytest.mark.parametrize("code", ["١٢٣٤٥٦", "\x00", "0" * 100_000, "", "é"])
def test_what_is_no_code_is_a_wrong_one(client: Client, member: User, code: str) -> None:
    begin(client, member)
    assert client.post(CONFIRM, {"code": code}).status_code == 200
    assert "_auth_user_id" not in client.session


def test_the_code_of_a_new_address_counts_its_guesses_too(client: Client, db: None) -> None:
    client.post("/accounts/signup/", {"email": "new@example.org"})
    code = Letter.objects.latest("pk").code
    before = dict(client.session)
    for by in range(1, 4):
        client.post("/accounts/confirm-email/", {"code": another(code, by)})
        begun_at_once(client, before)
    client.post("/accounts/confirm-email/", {"code": code})
    assert "_auth_user_id" not in client.session
