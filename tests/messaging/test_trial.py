from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from allauth.account.models import EmailAddress
from django.conf import LazySettings
from django.core import mail
from django.core.mail.backends.base import BaseEmailBackend

from accounts.models import User
from groups.models import Contact
from messaging import services
from messaging.models import Message, SendSlot

pytestmark = pytest.mark.django_db


class Refusing(BaseEmailBackend):
    def send_messages(self, messages: object) -> int:
        return 0


class Away(BaseEmailBackend):
    def open(self) -> bool:
        raise OSError("no route")


def test_a_preview_is_what_that_member_would_see_and_its_links_lead_nowhere(
    draft: Message, people: list[Contact], now: datetime
) -> None:
    shown = services.preview(draft, contact=people[0], now=now)
    assert "Hi Person," in shown.text
    assert "Patrons · Hobbyist" in shown.html
    assert "/redeem/" not in shown.html
    assert "/unsubscribe/" not in shown.text


def test_a_preview_for_nobody_in_particular_shows_somebody_made_up(draft: Message, now: datetime) -> None:
    shown = services.preview(draft, now=now)
    assert "Hi Alex," in shown.text
    assert "Patrons · Hobbyist" in shown.text
    draft.release.audience_rows.all().delete()
    assert "your group" in services.preview(draft, now=now).text


def test_a_test_goes_to_ones_own_verified_address_and_charges_nothing(
    draft: Message, owner: User, now: datetime
) -> None:
    assert services.send_test(draft, to=owner, now=now) == "ana@forge.example"
    [sent] = mail.outbox
    assert (sent.to, sent.subject) == (["ana@forge.example"], "The dragon is here")
    assert not SendSlot.objects.exists()
    EmailAddress.objects.create(user=owner, email="second@forge.example", verified=True)
    services.send_test(draft, to=owner, address="Second@Forge.example", now=now)
    assert mail.outbox[1].to == ["second@forge.example"]


@pytest.mark.parametrize("address", ["mia@example.org", "unproven@forge.example"])
def test_a_test_goes_to_nobody_else(
    draft: Message, owner: User, member: User, now: datetime, address: str
) -> None:
    EmailAddress.objects.create(user=owner, email="unproven@forge.example", verified=False)
    with pytest.raises(services.TestRefused, match="your own addresses only"):
        services.send_test(draft, to=owner, address=address, now=now)
    assert mail.outbox == []


def test_twenty_tests_a_day_and_no_more(draft: Message, owner: User, now: datetime) -> None:
    for _each in range(20):
        services.send_test(draft, to=owner, now=now)
    with pytest.raises(services.TestRefused, match="20 tests"):
        services.send_test(draft, to=owner, now=now)
    assert len(mail.outbox) == 20
    services.send_test(draft, to=owner, now=now + timedelta(days=1))


@pytest.mark.parametrize(("backend", "says"), [("Refusing", "did not take it"), ("Away", "no route")])
def test_a_test_that_did_not_go_out_says_so(
    draft: Message, owner: User, now: datetime, settings: LazySettings, backend: str, says: str
) -> None:
    settings.EMAIL_BACKEND = f"{__name__}.{backend}"
    with pytest.raises(services.TestRefused, match=says):
        services.send_test(draft, to=owner, now=now)


@pytest.fixture
def warned(draft: Message, people: list[Contact], now: datetime) -> Callable[[], list[str]]:
    return lambda: services.outlook(draft, now=now).warnings


def test_the_check_says_what_the_mail_system_cannot(
    warned: Callable[[], list[str]], settings: LazySettings
) -> None:
    settings.MAILBOX = True
    assert "nothing really leaves" in warned()[0]
    settings.MAILBOX = False
    assert warned() == []
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    assert "what it accepted" in warned()[0]
