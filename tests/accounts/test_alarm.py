from datetime import datetime

import pytest
from allauth.account.models import EmailAddress
from django.conf import LazySettings

from accounts.models import Letter, User
from accounts.services import alarm
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin(owner: User) -> User:
    admin = factories.UserFactory.create(email="ada@site.example", is_staff=True)
    EmailAddress.objects.update_or_create(
        user=admin, email=admin.email, defaults={"verified": True, "primary": True}
    )
    EmailAddress.objects.create(user=admin, email="unproven@site.example", verified=False)
    return admin


def told() -> list[str]:
    return sorted(Letter.objects.values_list("address_key", flat=True))


def test_an_alarm_is_an_error_in_the_log_and_one_letter_to_each_admin(
    admin: User, now: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    alarm("Mail stands\nstill", "Since 12:00.", dedupe_key="k" * 300, now=now)
    alarm("Mail stands\nstill", "Since 12:00.", dedupe_key="k" * 300, now=now)
    assert told() == ["ada@site.example"]
    letter = Letter.objects.get()
    assert (letter.kind, letter.subject, letter.text) == ("alarm", "Mail stands still", "Since 12:00.")
    assert [entry.levelname for entry in caplog.records] == ["ERROR"]
    alarm("Mail stands still", "Again.", dedupe_key="later", now=now)
    assert len(told()) == 2


def test_an_admin_who_may_not_sign_in_any_more_is_not_told(
    admin: User, now: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    admin.is_active = False
    admin.save()
    alarm("Mail stands still", "Since 12:00.", dedupe_key="k", now=now)
    alarm("Mail stands still", "Since 12:00.", dedupe_key="k", now=now)
    assert told() == []
    # Nobody gets a letter, so the log says it as often as it is so.
    assert [entry.levelname for entry in caplog.records] == ["ERROR", "ERROR"]


def test_who_is_named_in_the_environment_is_told_instead_and_a_wrong_name_keeps_nobody_from_hearing(
    admin: User, now: datetime, settings: LazySettings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.ALARM_TO = ["nobody", "Ops@Site.example", "night@site.example"]
    alarm("Mail stands still", "Since 12:00.", dedupe_key="k", now=now)
    assert told() == ["night@site.example", "ops@site.example"]
    assert "ALARM_TO" in caplog.text
