"""What a second factor hangs on lies sealed in the database, and people meet it in our words."""

import secrets
from collections.abc import Callable

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from django.conf import LazySettings
from django.core.cache import cache
from django.db import connection
from django.test import Client

from accounts.models import User
from config.second_factor import seal_anew
from tests.signing_in import SECOND, now_code, sign_in, totp_of


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
