import re
from datetime import datetime, timedelta

import pytest
from django.conf import LazySettings
from django.core import mail
from django.test import Client
from django.urls import reverse

from accounts.addresses import AddressRefused
from accounts.models import Letter, User
from accounts.services import post_letter, send_due_letters, send_letter

pytestmark = pytest.mark.django_db


def post(now: datetime, key: str = "k", address: str = "Mia@Example.org") -> Letter:
    return post_letter(
        "code", address, subject="Hi", text="One\n\n123456\n\nTwo", code="123456", dedupe_key=key, now=now
    )


def test_a_letter_goes_out_once_and_its_code_is_forgotten(now: datetime) -> None:
    letter = post(now)
    assert send_due_letters(now=now) == 1
    assert send_due_letters(now=now) == 0
    assert not send_letter(letter, now=now)
    (sent,) = mail.outbox
    assert sent.to == ["mia@example.org"]
    assert "123456" in sent.body
    letter.refresh_from_db()
    assert (letter.state, letter.text, letter.code) == (Letter.State.SENT, "", "")


def test_the_same_dedupe_key_is_one_letter(now: datetime) -> None:
    assert post(now).pk == post(now).pk
    assert post(now, key="other").pk != post(now).pk


def test_an_address_that_is_none_is_refused_and_nothing_waits(now: datetime) -> None:
    with pytest.raises(AddressRefused):
        post(now, address="nobody")
    assert not Letter.objects.exists()


def test_a_mail_system_that_is_down_is_tried_again_later_and_after_six_times_it_says_so(
    now: datetime, settings: LazySettings
) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    letter = post(now)
    assert send_due_letters(now=now) == 0
    letter.refresh_from_db()
    assert (letter.state, letter.attempts) == (Letter.State.WAITING, 1)
    assert letter.not_before > now
    assert send_due_letters(now=now) == 0
    for day in range(1, 6):
        send_due_letters(now=now + timedelta(days=day))
    letter.refresh_from_db()
    assert (letter.state, letter.attempts) == (Letter.State.FAILED, 6)
    assert letter.reason


def test_signing_up_and_in_takes_an_address_and_a_code(client: Client, now: datetime) -> None:
    page = client.post(reverse("account_signup"), {"email": "Zoë@exämple.com".replace("ë", "e")}, follow=True)
    assert page.status_code == 200
    send_due_letters(now=datetime.now(tz=now.tzinfo) + timedelta(seconds=1))
    letter = mail.outbox[-1]
    assert letter.to == ["zoe@xn--exmple-cua.com"]
    code = re.match(r"(\S+) is your code", letter.subject)
    assert code
    page = client.post(reverse("account_email_verification_sent"), {"code": code[1]}, follow=True)
    assert page.wsgi_request.user.is_authenticated
    client.post(reverse("account_logout"))
    client.post(reverse("account_request_login_code"), {"email": "zoe@exämple.com"})
    send_due_letters(now=datetime.now(tz=now.tzinfo) + timedelta(seconds=1))
    code = re.match(r"(\S+) is your code", mail.outbox[-1].subject)
    assert code
    page = client.post(reverse("account_confirm_login_code"), {"code": code[1]}, follow=True)
    assert page.wsgi_request.user.is_authenticated
    assert User.objects.get().email == "zoe@xn--exmple-cua.com"


def test_a_letter_to_an_unknown_address_links_to_the_site_and_never_to_the_requests_host(
    client: Client, now: datetime, settings: LazySettings
) -> None:
    settings.SITE_URL = "https://files.example"
    client.post(reverse("account_request_login_code"), {"email": "who@example.org"})
    letter = Letter.objects.get()
    assert "https://files.example/accounts/signup/" in letter.text
    assert "testserver" not in letter.text
