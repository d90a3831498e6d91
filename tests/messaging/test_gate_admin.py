"""Whoever runs the installation sees in the browser how sending stands, and unlocks it knowing what follows."""

from collections.abc import Callable
from datetime import datetime

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditEvent, User
from groups.models import Contact
from messaging import gate
from messaging.models import Message
from tests.messaging.test_chunks import states

pytestmark = pytest.mark.django_db


@pytest.fixture
def page(db: None) -> str:
    return reverse("admin:messaging_gate_changelist")


@pytest.fixture
def browser(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("root@example.org"))
    return client


@pytest.fixture
def message(
    draft: Message, people: list[Contact], confirm: Callable[..., Message], start: Callable[..., Message]
) -> Message:
    return start(confirm(draft))


def test_how_sending_stands_is_one_page_without_anything_to_press(
    browser: Client, page: str, message: Message, now: datetime
) -> None:
    gate.beat(now)
    text = browser.get(page).content.decode()
    assert "Sending is open." in text
    assert "Unlock" not in text


def test_a_locked_gate_is_unlocked_by_who_chooses_what_follows_and_is_sure(
    browser: Client, page: str, message: Message, now: datetime
) -> None:
    gate.lock("Restored.", now)
    text = browser.get(page).content.decode()
    assert "LOCKED" in text
    assert "5 mails that were not offered" in text
    for form in ({}, {"way": "doubt"}, {"way": "else", "sure": "yes"}):
        assert "Choose what applies" in browser.post(page, form, follow=True).content.decode()
    assert states() == ["planned"] * 5
    form = {"way": "doubt", "sure": "yes"}
    assert "Sending is unlocked" in browser.post(page, form, follow=True).content.decode()
    assert states() == ["unknown"] * 5
    assert AuditEvent.objects.get(verb="unlock sending").actor == User.objects.get(email="root@example.org")
    assert "nothing to unlock" in browser.post(page, form, follow=True).content.decode()


def test_what_stands_still_is_listed(browser: Client, page: str, message: Message) -> None:
    Message.objects.update(stalled_at=timezone.now())
    assert "stand still</a>" in browser.get(page).content.decode().replace(" (1)", "")
    listed = browser.get(reverse("admin:messaging_message_changelist") + "?stalled_at__isempty=0")
    assert "The dragon is here" in listed.content.decode()
    assert (
        "The dragon is here"
        not in browser.get(listed.request["PATH_INFO"] + "?stalled_at__isempty=1").content.decode()
    )


def test_nobody_else_comes_near_it(client: Client, page: str, owner: User) -> None:
    client.force_login(owner)
    assert client.get(page).status_code == 302
    owner.is_staff = True
    owner.save()
    assert client.get(page).status_code == 403
    assert client.post(page, {"way": "doubt", "sure": "yes"}).status_code == 403
