"""A session alone takes no account: what it hangs on changes only for whoever shows once more that it is they."""

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
import time_machine
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from django.conf import LazySettings
from django.core.cache import cache
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from accounts.asked import LIMITS, TooManyLetters, post_asked_letter
from accounts.models import Letter, User
from config.sign_in_link import make_link
from tests.signing_in import LOGIN, code, now_code, sign_in, totp_of

EMAIL, AGAIN = "/accounts/email/", "/accounts/again/"
PASSWORD = "one long sentence only mia knows"


@pytest.fixture(autouse=True)
def fresh_limits() -> None:
    cache.clear()


@pytest.fixture
def stolen(member: User) -> Client:
    """A session of hers that was begun an hour ago, in other hands."""
    with time_machine.travel(timezone.now() - timedelta(hours=1)):
        browser = sign_in(member)
    assert browser.session["_auth_user_id"] == str(member.pk)
    return browser


@pytest.fixture
def second_address(member: User) -> EmailAddress:
    return EmailAddress.objects.create(user=member, email="mia@second.example", verified=True)


def show(browser: Client, answer: HttpResponse) -> HttpResponse:
    """What she does who may: has a code sent and types it."""
    assert answer.status_code == 302
    assert answer["Location"].startswith(AGAIN)
    assert "Send me a code" in browser.get(answer["Location"]).text
    browser.post(answer["Location"])
    last: HttpResponse = browser.post(answer["Location"], {"code": code("again_code")})
    return last


CHANGES = [
    (EMAIL, {"action_add": "", "email": "thief@elsewhere.example"}),
    (EMAIL, {"action_primary": "", "email": "mia@second.example"}),
    (EMAIL, {"action_remove": "", "email": "mia@second.example"}),
    ("/accounts/password/set/", {"password1": PASSWORD, "password2": PASSWORD}),
    ("/accounts/2fa/totp/activate/", {"code": "123456"}),
    ("/accounts/2fa/webauthn/add/", {"name": "x"}),
    ("/accounts/2fa/recovery-codes/generate/", {}),
]


def standing(member: User) -> list[object]:
    member.refresh_from_db()
    return [
        member.password,
        list(EmailAddress.objects.order_by("pk").values_list("email", "primary", "verified")),
        list(Authenticator.objects.values_list("pk")),
    ]


@pytest.mark.django_db
@pytest.mark.usefixtures("second_address")
@pytest.mark.parametrize(("path", "form"), CHANGES)
def test_a_session_alone_changes_nothing(
    stolen: Client, member: User, path: str, form: dict[str, str]
) -> None:
    before = standing(member)
    answer = stolen.post(path, form)
    assert answer.status_code == 302
    assert answer["Location"].startswith(AGAIN)
    assert standing(member) == before
    # A wrong code is no code, and three are all.
    stolen.post(answer["Location"])
    for guess in ("000000", "000001", "000002"):
        assert stolen.post(answer["Location"], {"code": guess}).status_code == 200
    assert stolen.post(answer["Location"], {"code": code("again_code")}).status_code == 200
    assert standing(member) == before


@pytest.mark.django_db
def test_the_code_goes_on_with_what_was_asked_for_and_the_old_address_hears_of_it(
    stolen: Client, member: User, second_address: EmailAddress
) -> None:
    elsewhere = sign_in(member)
    show(stolen, stolen.post(EMAIL, {"action_primary": "", "email": second_address.email}))
    assert EmailAddress.objects.get_primary_email(member) == second_address.email
    told = Letter.objects.get(kind="email_changed")
    assert told.address_key == member.email
    assert "mia@second.example" in told.text
    assert "127.0.0.0" in told.text
    # This browser goes on; the other is out.
    assert stolen.get(EMAIL).status_code == 200
    assert elsewhere.get(EMAIL).status_code == 302


@pytest.mark.django_db
def test_who_signed_in_just_now_is_not_asked_again(member: User, second_address: EmailAddress) -> None:
    browser = sign_in(member)
    browser.post(EMAIL, {"action_remove": "", "email": second_address.email})
    assert not EmailAddress.objects.filter(pk=second_address.pk).exists()
    assert {letter.address_key for letter in Letter.objects.filter(kind="email_deleted")} == {
        member.email,
        second_address.email,
    }


@pytest.mark.django_db
def test_an_address_that_was_only_claimed_gets_no_letter_when_it_goes(member: User) -> None:
    EmailAddress.objects.create(user=member, email="victim@elsewhere.example", verified=False)
    sign_in(member).post(EMAIL, {"action_remove": "", "email": "victim@elsewhere.example"})
    assert not EmailAddress.objects.filter(email="victim@elsewhere.example").exists()
    assert not Letter.objects.filter(address_key="victim@elsewhere.example").exists()


@pytest.mark.django_db
def test_the_last_confirmed_address_stays(member: User, second_address: EmailAddress) -> None:
    EmailAddress.objects.filter(user=member, primary=True).update(verified=False)
    browser = sign_in(member)
    EmailAddress.objects.filter(user=member, primary=True).update(verified=False)
    browser.post(EMAIL, {"action_remove": "", "email": second_address.email})
    assert EmailAddress.objects.filter(pk=second_address.pk).exists()


@pytest.mark.django_db
def test_a_new_address_is_told_to_the_main_one(member: User) -> None:
    browser = sign_in(member)
    browser.post(EMAIL, {"action_add": "", "email": "mia@third.example"})
    browser.post("/accounts/confirm-email/", {"code": code("email_confirmation")})
    assert EmailAddress.objects.filter(user=member, email="mia@third.example", verified=True).exists()
    told = Letter.objects.get(kind="email_added")
    assert told.address_key == member.email
    assert "mia@third.example" in told.text


@pytest.mark.django_db
def test_a_password_or_a_code_shows_it_and_a_password_ends_other_sessions(
    stolen: Client, member: User
) -> None:
    answer = stolen.post("/accounts/password/set/", {"password1": PASSWORD, "password2": PASSWORD})
    show(stolen, answer)
    member.refresh_from_db()
    assert member.check_password(PASSWORD)
    assert Letter.objects.filter(kind="password_set", address_key=member.email).exists()


# --- letters that anybody can ask for -------------------------------------------------------------


def ask_for_codes(address: str, times: int) -> list[int]:
    return [Client().post(LOGIN, {"email": address}).status_code for _ in range(times)]


@pytest.mark.django_db
@pytest.mark.parametrize("address", ["mia@example.org", "nobody@elsewhere.example"])
def test_an_address_gets_so_many_codes_an_hour_known_or_not(
    settings: LazySettings, member: User, address: str
) -> None:
    settings.ACCOUNT_RATE_LIMITS = {"request_login_code": "1000/m/ip"}
    most = LIMITS[0][1]
    assert ask_for_codes(address, most + 1) == [302] * most + [429]
    answer = Client().post("/accounts/password/reset/", {"email": address})
    assert answer.status_code == 429
    assert 3500 < int(answer["Retry-After"]) <= 3600
    assert "in 60 minutes" in " ".join(answer.text.split())
    assert f'value="{address}"' in answer.text
    assert Letter.objects.filter(address_key=address).count() == most
    assert ask_for_codes("another@elsewhere.example", 1) == [302]


def ask(now: datetime) -> None:
    post_asked_letter("login_code", "mia@example.org", subject="s", text="t", now=now)


@pytest.mark.django_db
def test_an_hour_and_a_day_roll_on_and_a_letter_nobody_asked_for_counts_for_nothing(now: datetime) -> None:
    (hour, an_hour), (_day, a_day) = LIMITS
    Letter.objects.create(
        kind="alarm", address_key="mia@example.org", created_at=now, not_before=now, dedupe_key="alarm"
    )
    sent = 0
    for turn in range(4):
        at = now + turn * hour
        for _ in range(min(an_hour, a_day - sent)):
            ask(at)
            sent += 1
        with pytest.raises(TooManyLetters) as refused:
            ask(at)
    assert sent == a_day
    assert refused.value.seconds == 21 * 3600
    ask(now + timedelta(days=1))


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_many_askers_at_once_no_more_get_a_letter_than_may(now: datetime) -> None:
    start = threading.Barrier(12)
    refused: list[Exception] = []

    def one() -> None:
        start.wait()
        try:
            ask(now)
        except TooManyLetters as error:
            refused.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=one) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Letter.objects.count() == LIMITS[0][1]
    assert len(refused) == 12 - LIMITS[0][1]


# --- second factors -------------------------------------------------------------------------------


@pytest.mark.django_db
def test_signing_in_takes_both_and_a_code_of_the_app_opens_once(member: User) -> None:
    secret = totp_of(member)
    browser, other = sign_in(member), sign_in(member)
    assert "_auth_user_id" not in browser.session
    right = now_code(secret)
    wrong = f"{(int(right) + 1) % 1_000_000:06d}"
    assert "Incorrect code" in browser.post("/accounts/2fa/authenticate/", {"code": wrong}).text
    browser.post("/accounts/2fa/authenticate/", {"code": right})
    assert browser.session["_auth_user_id"] == str(member.pk)
    assert "Incorrect code" in other.post("/accounts/2fa/authenticate/", {"code": right}).text
    with time_machine.travel(timezone.now() + timedelta(seconds=29)):
        other.post("/accounts/2fa/authenticate/", {"code": right})
    assert "_auth_user_id" not in other.session


@pytest.mark.django_db
def test_a_recovery_code_opens_once(member: User) -> None:
    totp_of(member)
    (first, *_rest) = RecoveryCodes.activate(member).get_unused_codes()
    browser = sign_in(member)
    browser.post("/accounts/2fa/authenticate/", {"code": first})
    assert browser.session["_auth_user_id"] == str(member.pk)
    other = sign_in(member)
    assert "Incorrect code" in other.post("/accounts/2fa/authenticate/", {"code": first}).text


@pytest.mark.django_db
def test_with_a_second_factor_a_mailed_code_shows_nothing(member: User, second_address: EmailAddress) -> None:
    secret = totp_of(member)
    with time_machine.travel(timezone.now() - timedelta(hours=1)):
        stolen = sign_in(member)
        stolen.post("/accounts/2fa/authenticate/", {"code": now_code(secret)})
    answer = stolen.post(EMAIL, {"action_remove": "", "email": second_address.email})
    assert answer["Location"].startswith("/accounts/2fa/reauthenticate/")
    assert stolen.get(AGAIN)["Location"].startswith("/accounts/2fa/reauthenticate/")
    stolen.post(answer["Location"], {"code": now_code(secret)})
    assert not EmailAddress.objects.filter(pk=second_address.pk).exists()


@pytest.mark.django_db(transaction=True)
def test_an_app_is_set_up_by_its_code_told_of_and_ends_other_sessions(member: User) -> None:
    browser, elsewhere = sign_in(member), sign_in(member)
    browser.get("/accounts/2fa/totp/activate/")
    secret = browser.session["mfa.totp.secret"]
    browser.post("/accounts/2fa/totp/activate/", {"code": now_code(secret)})
    assert set(Authenticator.objects.values_list("type", flat=True)) == {"totp", "recovery_codes"}
    assert elsewhere.get(EMAIL).status_code == 302
    assert browser.get(EMAIL).status_code == 200


@pytest.mark.django_db
def test_admins_get_nowhere_without_a_second_factor_if_it_is_asked_for(
    settings: LazySettings, member: User
) -> None:
    settings.STAFF_MFA = True
    member.is_staff = member.is_superuser = True
    member.save()
    browser = Client()
    link = make_link(member).removeprefix(settings.SITE_URL)
    assert browser.post(link)["Location"] == "/admin/"
    for path in ("/admin/", "/library/", "/studio/", "/"):
        answer = browser.get(path)
        assert (path, answer.status_code, answer.headers.get("Location")) in {
            (path, 302, "/accounts/2fa/"),
            ("/", 302, "/library/"),
        }
    assert "second factor" in browser.get("/accounts/2fa/").text
    # The link led in, and on to the set-up, without a letter.
    assert browser.get("/accounts/2fa/totp/activate/").status_code == 200
    browser.post("/accounts/2fa/totp/activate/", {"code": now_code(browser.session["mfa.totp.secret"])})
    assert browser.get("/admin/").status_code == 200


@pytest.mark.django_db
def test_nobody_else_is_asked_for_one(settings: LazySettings, member: User) -> None:
    settings.STAFF_MFA = True
    assert sign_in(member).get("/library/").status_code == 200


@pytest.mark.django_db
def test_second_factors_stand_in_no_admin(member: User, client_of: Callable[[User | None], Client]) -> None:
    member.is_staff = member.is_superuser = True
    member.save()
    assert client_of(member).get("/admin/mfa/authenticator/").status_code == 404


# --- the log --------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_sign_ins_good_and_failed_are_logged_with_a_network_and_no_address(
    member: User, caplog: pytest.LogCaptureFixture
) -> None:
    member.set_password(PASSWORD)
    member.save()
    caplog.set_level(logging.INFO, "config.sign_in")
    browser = Client(REMOTE_ADDR="198.51.100.77")
    browser.post("/accounts/login/", {"login": member.email, "password": "x"})
    browser.post(LOGIN, {"email": member.email})
    right = code("login_code")
    browser.post("/accounts/login/code/confirm/", {"code": f"{(int(right) + 1) % 1_000_000:06d}"})
    browser.post("/accounts/login/code/confirm/", {"code": right})
    assert [entry.getMessage() for entry in caplog.records if entry.name == "config.sign_in"] == [
        "somebody: wrong address or password, from 198.51.100.0",
        "somebody: wrong code, from 198.51.100.0",
        f"account {member.pk}: signed in, from 198.51.100.0",
    ]
