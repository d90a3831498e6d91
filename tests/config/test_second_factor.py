"""What a second factor hangs on lies sealed in the database, and people meet it in our words."""

import json
import logging
import re
import secrets
import time
from collections.abc import Callable
from html import unescape

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from django.conf import LazySettings
from django.core.cache import cache
from django.db import connection
from django.test import Client

from accounts.models import Letter, User
from config.second_factor import seal_anew
from tests.signing_in import SECOND, now_code, passkey_of, sign_in, totp_of


@pytest.fixture(autouse=True)
def fresh_limits() -> None:
    cache.clear()


# --- sealed -----------------------------------------------------------------------------------------


def stored() -> str:
    """What whoever reads a copy of the database sees of second factors."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT data FROM mfa_authenticator")
        return str(cursor.fetchall())


def keep_in_plain_text(user: User, seed: str, secret: str) -> None:
    """As rows were written before there was a seal."""
    Authenticator.objects.filter(user=user, type="totp").update(data={"secret": secret})
    Authenticator.objects.filter(user=user, type="recovery_codes").update(data={"seed": seed, "used_mask": 1})


def opens(member: User, typed: str) -> bool:
    browser = sign_in(member)
    browser.post(f"{SECOND}authenticate/", {"code": typed})
    return "_auth_user_id" in browser.session


@pytest.mark.django_db
def test_neither_secret_nor_seed_is_stored_in_plain_text_and_both_open(
    member: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = secrets.token_hex(40)
    monkeypatch.setattr(RecoveryCodes, "generate_seed", lambda: seed)
    secret = totp_of(member)
    (recovery, *_rest) = RecoveryCodes.activate(member).get_unused_codes()
    assert secret not in stored()
    assert seed not in stored()
    assert opens(member, now_code(secret))
    assert opens(member, recovery)


@pytest.mark.django_db
def test_a_row_in_plain_text_opens_and_is_sealed_when_its_person_signs_in(member: User) -> None:
    secret, seed = totp_of(member), secrets.token_hex(40)
    codes = RecoveryCodes.activate(member)
    keep_in_plain_text(member, seed, secret)
    codes.instance.refresh_from_db()
    unused = codes.get_unused_codes()
    assert opens(member, now_code(secret))
    assert secret not in stored()
    assert seed not in stored()
    # Which codes were used is kept.
    codes.instance.refresh_from_db()
    assert codes.get_unused_codes() == unused
    assert len(unused) == 9
    assert opens(member, unused[0])


@pytest.mark.django_db
def test_after_a_change_of_keys_it_opens_and_is_sealed_by_the_new_one(
    member: User, settings: LazySettings
) -> None:
    secret = totp_of(member)
    (recovery, *_rest) = RecoveryCodes.activate(member).get_unused_codes()
    before = settings.SECRET_KEY
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = secrets.token_hex(32), [before]
    assert opens(member, now_code(secret))
    # The old key is not needed any more by whoever signed in meanwhile.
    settings.SECRET_KEY_FALLBACKS = []
    assert opens(member, recovery)


@pytest.mark.django_db
def test_without_its_key_it_opens_to_nobody_breaks_no_page_and_tells_the_operator(
    member: User, settings: LazySettings, caplog: pytest.LogCaptureFixture
) -> None:
    secret = totp_of(member)
    RecoveryCodes.activate(member)
    settings.SECRET_KEY = secrets.token_hex(32)
    browser = sign_in(member)
    answer = browser.post(f"{SECOND}authenticate/", {"code": now_code(secret)})
    assert "cannot be read here any more" in answer.text
    assert "_auth_user_id" not in browser.session
    assert [entry.levelname for entry in caplog.records if "SECRET_KEY_FALLBACKS" in entry.getMessage()] == [
        "ERROR"
    ]
    # Whoever came in by a link from the terminal finds the page on which to take it away.
    browser = Client()
    browser.force_login(member)
    assert browser.get(SECOND).status_code == 200


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("place", ["recovery-codes/", "recovery-codes/download/", "recovery-codes/generate/"])
def test_what_no_key_opens_breaks_no_page_of_whoever_is_signed_in(member: User, place: str) -> None:
    browser = set_up(member)
    codes = Authenticator.objects.filter(user=member, type="recovery_codes")
    codes.update(data={"seed": "sealed:by-another-key", "used_mask": 0})
    answer = browser.get(f"{SECOND}{place}")
    assert answer.status_code in {200, 403}
    assert answer.status_code == 200 or "cannot be read here any more" in answer.text


@pytest.mark.django_db
def test_a_seal_that_somebody_changed_opens_to_nobody(member: User) -> None:
    secret = totp_of(member)
    row = Authenticator.objects.get(user=member)
    row.data["secret"] = row.data["secret"][:-4] + "AAA="
    row.save()
    assert not opens(member, now_code(secret))


@pytest.mark.django_db
def test_a_sign_in_seals_nothing_anew_that_is_sealed(member: User) -> None:
    secret = totp_of(member)
    before = stored()
    assert opens(member, now_code(secret))
    assert stored() == before


@pytest.mark.django_db
def test_a_recovery_code_used_while_its_row_is_sealed_stays_used(member: User) -> None:
    codes = RecoveryCodes.activate(member)
    keep_in_plain_text(member, secrets.token_hex(40), "")
    codes.instance.refresh_from_db()
    (used, *others) = codes.get_unused_codes()
    meanwhile = [used]

    def use_one(execute: Callable[..., object], sql: str, *rest: object) -> object:
        if sql.startswith("UPDATE") and "mfa_authenticator" in sql and meanwhile:
            assert codes.validate_code(meanwhile.pop())
        return execute(sql, *rest)

    with connection.execute_wrapper(use_one):
        seal_anew(member)
    codes.instance.refresh_from_db()
    assert codes.get_unused_codes() == others


# --- asked for --------------------------------------------------------------------------------------


def set_up(member: User) -> Client:
    """A browser in which she has just set up an app."""
    browser = sign_in(member)
    browser.get(f"{SECOND}totp/activate/")
    right = now_code(browser.session["mfa.totp.secret"])
    answer = browser.post(f"{SECOND}totp/activate/", {"code": right})
    assert answer["Location"] == f"{SECOND}recovery-codes/"
    return browser


@pytest.mark.django_db(transaction=True)
def test_whoever_sets_one_up_sees_the_recovery_codes_without_being_asked_again(member: User) -> None:
    browser = set_up(member)
    codes = RecoveryCodes.activate(member).get_unused_codes()
    page = browser.get(f"{SECOND}recovery-codes/").text
    assert all(code in page for code in codes)
    assert browser.get(f"{SECOND}recovery-codes/download/").text.split() == codes


@pytest.mark.django_db(transaction=True)
def test_what_was_shown_after_it_was_there_must_be_the_factor(member: User) -> None:
    browser = set_up(member)
    session = browser.session
    session["account_authentication_methods"] = [{"method": "code", "at": time.time()}]
    session.save()
    assert browser.get(f"{SECOND}recovery-codes/")["Location"].startswith(f"{SECOND}reauthenticate/")


@pytest.mark.django_db
def test_a_passkey_is_asked_for_before_a_typed_code(member: User) -> None:
    totp_of(member)
    passkey_of(member, "My laptop")
    browser = Client()
    browser.force_login(member)
    where = browser.get(f"{SECOND}recovery-codes/generate/")["Location"]
    assert where.startswith(f"{SECOND}webauthn/reauthenticate/")
    assert "Type a code instead" in browser.get(where).text


@pytest.mark.django_db
def test_a_wrong_passkey_opens_nothing_and_is_logged(member: User, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "config.sign_in")
    credential = passkey_of(member, "My laptop").data["credential"]
    browser = sign_in(member)
    answer = browser.post(f"{SECOND}authenticate/", {"credential": json.dumps(credential)})
    assert "That passkey does not open this account" in answer.text
    assert "_auth_user_id" not in browser.session
    assert [entry.getMessage() for entry in caplog.records if entry.name == "config.sign_in"] == [
        f"account {member.pk}: wrong second factor, from 127.0.0.0"
    ]


@pytest.mark.django_db
def test_another_persons_passkey_is_not_there(member: User, stranger: User) -> None:
    key = passkey_of(member, "My laptop")
    browser = sign_in(stranger)
    for act in ("edit", "remove"):
        path = f"{SECOND}webauthn/keys/{key.pk}/{act}/"
        assert browser.get(path).status_code == 404
        assert browser.post(path, {"name": "Mine"}).status_code == 404
    key.refresh_from_db()
    assert key.data["name"] == "My laptop"


# --- pages ------------------------------------------------------------------------------------------

PAGES = {
    "": "Your addresses",
    "totp/activate/": "Second factor",
    "totp/deactivate/": "Second factor",
    "recovery-codes/": "Second factor",
    "recovery-codes/generate/": "Second factor",
    "webauthn/": "Second factor",
    "webauthn/add/": "Second factor",
    "webauthn/keys/{key}/edit/": "Passkeys",
    "webauthn/keys/{key}/remove/": "Passkeys",
    "reauthenticate/": "Leave it as it is",
    "webauthn/reauthenticate/": "Leave it as it is",
}
ALLAUTHS = re.compile(
    r"two-factor|security keys|deactivate|authenticator code|reauthenticate to|generate", re.IGNORECASE
)
SCRIPTS = re.compile(r"<script\b(?![^>]*\bsrc=)(?![^>]*type=\"application/json\")")


@pytest.mark.django_db
@pytest.mark.parametrize("path", PAGES)
def test_each_page_is_in_our_words_has_a_way_back_and_runs_nothing_inline(member: User, path: str) -> None:
    browser = sign_in(member)
    if path != "totp/activate/":
        totp_of(member)
        RecoveryCodes.activate(member)
    key = passkey_of(member, "My laptop")
    record_a_factor(browser)
    answer = browser.get(SECOND + path.format(key=key.pk))
    assert answer.status_code == 200
    main = answer.text.partition("<main")[2].partition("</main>")[0]
    words = " ".join(unescape(re.sub(r"<[^>]*>", " ", main)).split())
    assert PAGES[path] in words
    assert main.count("<h1") == 1
    assert not ALLAUTHS.search(words)
    assert not SCRIPTS.search(answer.text)


def record_a_factor(browser: Client) -> None:
    session = browser.session
    session["account_authentication_methods"] = [{"method": "mfa", "at": time.time()}]
    session.save()


@pytest.mark.django_db
def test_the_picture_of_the_secret_has_words_and_the_secret_stands_beside_it(member: User) -> None:
    browser = sign_in(member)
    page = browser.get(f"{SECOND}totp/activate/").text
    secret = browser.session["mfa.totp.secret"]
    (picture,) = re.findall(r"<img[^>]*>", page)
    assert 'alt="QR code for your authenticator app.' in picture
    assert secret not in picture
    assert f">{secret}</code>" in page


@pytest.mark.django_db(transaction=True)
def test_what_changed_is_told_in_our_words(member: User) -> None:
    browser = set_up(member)
    assert "Your authenticator app is set up." in browser.get(f"{SECOND}").text
    browser.post(f"{SECOND}recovery-codes/generate/")
    record_a_factor(browser)
    browser.post(f"{SECOND}webauthn/keys/{passkey_of(member, 'My laptop').pk}/remove/")
    browser.post(f"{SECOND}totp/deactivate/")
    told = Letter.objects.exclude(kind="login_code").order_by("pk")
    assert list(told.values_list("subject", flat=True)) == [
        "Your account has an authenticator app now",
        "You have new recovery codes",
        "A passkey was removed",
        "Your authenticator app was removed",
    ]
    assert all(letter.address_key == member.email for letter in told)
    # Recovery codes go with the last factor.
    assert not Authenticator.objects.exists()
