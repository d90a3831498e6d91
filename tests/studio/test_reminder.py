"""A reminder: written, checked, sent once, to those who have not redeemed."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import User
from groups.models import Group
from messaging import services, tasks
from messaging.models import Delivery, Message
from tests import factories
from tests.studio import test_release
from tests.studio.conftest import clock, url
from tests.studio.test_checks import poll_of
from tests.studio.test_release import NOW, confirm, give, page_of, start

message, people = test_release.message, test_release.people

pytestmark = pytest.mark.django_db
WORDS = {"subject": "Still here", "body": "Hello {first_name|friend}", "when": "now"}


@pytest.fixture
def told(message: Message, owner: User) -> Message:
    """Everybody was told four days ago; Mia has it, three have not redeemed it."""
    confirm(message, owner)
    give(message)
    start(message)
    Delivery.objects.update(state="accepted", offered_at=NOW)
    message.chunks.update(state="done", tally={"accepted": 4})
    services.finish_message(message.pk, now=NOW)
    Message.objects.update(started_at=NOW - timedelta(days=4))
    message.refresh_from_db()
    return message


def revision() -> int:
    """As the page that was just opened says it."""
    reminder = Message.objects.filter(kind="reminder").first()
    return reminder.revision if reminder else 0


def send(studio: Client, told: Message, **changes: str) -> str:
    data = {**WORDS, "request_id": str(uuid4()), "revision": revision(), **changes}
    return studio.post(url("confirm_reminder", told.release_id), data, follow=True).content.decode()


def test_the_release_offers_a_reminder_with_the_number_of_those_who_wait(
    studio: Client, told: Message
) -> None:
    page = page_of(studio, told)
    assert "3 people have not redeemed it yet." in page
    assert "Write a reminder" in page


def test_the_page_has_words_a_preview_and_the_check(studio: Client, told: Message) -> None:
    page = studio.get(url("reminder", told.release_id)).content.decode()
    assert "people have not redeemed it" in page
    assert "get the reminder" in page
    assert "Send the reminder" in page
    mail = studio.get(url("preview_reminder", told.release_id))
    assert mail.status_code == 200
    assert "sandbox" in mail["Content-Security-Policy"]


def test_words_are_kept_until_it_is_sent(studio: Client, told: Message) -> None:
    page = studio.post(
        url("reminder", told.release_id), {**WORDS, "revision": 0}, follow=True
    ).content.decode()
    assert "Saved." in page
    reminder = Message.objects.get(kind="reminder")
    assert (reminder.subject, reminder.body, reminder.state) == (
        "Still here",
        "Hello {first_name|friend}",
        "draft",
    )


def test_it_is_sent_once_however_often_it_is_pressed(studio: Client, told: Message) -> None:
    press = str(uuid4())
    assert "The reminder goes out" in send(studio, told, request_id=press)
    send(studio, told, request_id=press)
    send(studio, told)
    reminder = Message.objects.get(kind="reminder")
    assert (reminder.state, reminder.subject) == ("confirmed", "Still here")
    page = page_of(studio, told)
    assert "Write a reminder" not in page
    assert "Reminder" in page
    assert "Cancel the mail" in page


def test_it_is_scheduled_and_moved(studio: Client, told: Message) -> None:
    day = clock(timezone.now() + timedelta(days=2))
    assert "The reminder is scheduled" in send(studio, told, when="at", at=day)
    assert "Change the time" in page_of(studio, told)


def test_too_early_is_refused_with_the_first_time_at_one_press(studio: Client, told: Message) -> None:
    Message.objects.update(started_at=NOW)
    assert "You can remind them once, from" in page_of(studio, told)
    page = send(studio, told)
    assert "Give people three days" in page
    assert "Schedule for" in page
    offer = page.split('name="offer" value="')[1].split('"')[0]
    assert "The reminder is scheduled" in send(studio, told, offer=offer)


def test_over_the_cap_it_is_refused_with_the_next_time(
    studio: Client, told: Message, hobbyist: Group, owner: User
) -> None:
    bundle = factories.BundleFactory.create(creator=hobbyist.creator)
    release = factories.ReleaseFactory.create(creator=hobbyist.creator, bundles=[bundle], groups=[hobbyist])
    other = services.start_message(release)
    other.subject = "Another"
    other.save()
    services.confirm_message(other, request_id=uuid4(), due_at=NOW, by=owner, now=NOW)
    page = send(studio, told)
    assert "gets at most 2 messages" in page
    assert "Schedule for" in page
    assert Message.objects.get(kind="reminder").state == "draft"


def test_when_everybody_has_it_there_is_nobody_to_remind(studio: Client, told: Message) -> None:
    told.release.grants.filter(contact__account=None).update(redeemed_at=NOW)
    assert "there is nobody to remind" in page_of(studio, told)
    assert "nobody left to remind" in send(studio, told)


def test_of_a_recalled_or_unpublished_release_nobody_is_reminded(
    studio: Client, told: Message, owner: User
) -> None:
    studio.post(url("recall_release", told.release_id), {"because": "Wrong", "typed": "recall"})
    assert "Write a reminder" not in page_of(studio, told)
    page = studio.get(url("reminder", told.release_id), follow=True).content.decode()
    assert "was recalled" in page
    assert "was recalled" in send(studio, told)


def test_another_tab_that_sent_it_meanwhile_leads_to_what_came_of_it(studio: Client, told: Message) -> None:
    studio.get(url("reminder", told.release_id))
    send(studio, told)
    answer = studio.post(url("reminder", told.release_id), {"subject": "Other", "body": "words"})
    assert answer.status_code == 302
    assert Message.objects.get(kind="reminder").subject == "Still here"


def test_many_to_be_reminded_are_counted_by_a_worker(
    studio: Client, told: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("messaging.services.counting.AT_ONCE", 0)
    check = url("check_reminder", told.release_id)
    page = studio.get(url("reminder", told.release_id)).content.decode()
    assert "Counting who gets what" in page
    tasks.sweep()
    done = studio.get(poll_of(page), headers={"HX-Request": "true"}).content.decode()
    assert "3</span> <span>people have not redeemed it" in done
    assert studio.get(check).headers["Location"] == url("reminder", told.release_id)
