"""A send in the hands of its creator: paused, resumed, cancelled, moved; and what was given taken back."""

from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import AuditEvent, User
from distribution.models import Grant, Release
from groups.models import Contact, Creator, Group, Staff
from library.models import Holding
from messaging import gate, services
from messaging.models import Delivery, Message, SendSlot
from tests import factories
from tests.studio import test_release
from tests.studio.conftest import clock, fill_in, hidden_in, url
from tests.studio.test_release import NOW, confirm, give, page_of, send, start

message, people = test_release.message, test_release.people

pytestmark = pytest.mark.django_db


@pytest.fixture
def running(message: Message, owner: User) -> Message:
    """One of four was written to."""
    confirm(message, owner)
    give(message)
    start(message)
    first = Delivery.objects.order_by("contact")[0]
    Delivery.objects.filter(pk=first.pk).update(state="accepted", offered_at=NOW)
    message.chunks.update(tally=Delivery.objects.tally(), owner="here:1")
    message.refresh_from_db()
    return message


def act(studio: Client, name: str, message: Message) -> str:
    answer = studio.post(url(f"{name}_message", message.release_id, message.pk), follow=True)
    return answer.content.decode()


def state_of(message: Message) -> str:
    return Message.objects.values_list("state", flat=True).get(pk=message.pk)


# --- pausing, resuming, cancelling ------------------------------------------------------------------------


def test_pausing_says_in_numbers_what_it_means_before_it_is_pressed(studio: Client, running: Message) -> None:
    page = page_of(studio, running)
    assert "1 were written to, 3 were not yet." in page
    assert "Pause" in page
    assert "Cancel the mail" in page


def test_a_paused_message_says_who_rests_and_goes_on_when_it_is_resumed(
    studio: Client, running: Message
) -> None:
    page = act(studio, "pause", running)
    assert "What is being handed over now still goes" in page
    assert "3 wait until you resume" in page
    assert "every 2s" not in page
    assert state_of(running) == "paused"
    assert "It goes on where it stopped" in act(studio, "resume", running)
    assert state_of(running) == "running"


@pytest.mark.parametrize("name", ["pause", "resume"])
def test_pressing_twice_is_harmless(studio: Client, running: Message, name: str) -> None:
    if name == "resume":
        act(studio, "pause", running)
    for _press in range(2):
        assert "note bad" not in act(studio, name, running)
    assert AuditEvent.objects.filter(verb=f"{name} message").count() == 1


def test_cancelling_asks_with_the_numbers_of_those_told_and_those_not(
    studio: Client, running: Message
) -> None:
    page = studio.get(url("cancel_message", running.release_id, running.pk)).content.decode()
    assert "1 person was written to already" in page
    assert "3 people will not be" in page
    assert "The files stay given: 4 people" in page
    assert state_of(running) == "running"
    page = act(studio, "cancel", running)
    assert "the files stay given" in page
    assert state_of(running) == "cancelled"
    assert Holding.objects.live().count() == 1
    # What was offered keeps its slot.
    assert SendSlot.objects.filter(released_at=None).count() == 1


def test_another_tab_that_cancelled_meanwhile_is_told_of_and_nothing_is_lost(
    studio: Client, running: Message
) -> None:
    act(studio, "cancel", running)
    assert "was cancelled and cannot go on" in act(studio, "resume", running)
    assert "is not being sent any more" in act(studio, "pause", running)
    assert state_of(running) == "cancelled"
    answer = studio.get(url("cancel_message", running.release_id, running.pk))
    assert answer.status_code == 302


def test_a_done_message_offers_nothing_to_pause(
    studio: Client, message: Message, owner: User, mailoutbox: object
) -> None:
    confirm(message, owner)
    give(message)
    start(message)
    send()
    services.finish_message(message.pk, now=NOW)
    page = page_of(studio, message)
    assert "Pause" not in page
    assert "whether it arrived is not seen here" in page


def test_a_draft_is_steered_by_nobody(studio: Client, message: Message) -> None:
    for name in ("pause", "resume", "cancel", "reschedule"):
        answer = studio.post(url(f"{name}_message", message.release_id, message.pk))
        assert answer.status_code == 404


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"accepted": 3}, "whether it arrived is not seen here"),
        ({"accepted": 2, "delivered": 1}, "Of 2 more we know that the mail system accepted them"),
        ({"accepted": 2, "bounced": 1}, "what came back is counted below"),
        ({"delivered": 4}, "Delivered"),
    ],
)
def test_accepted_is_never_called_delivered(
    studio: Client, running: Message, counts: dict[str, int], words: str
) -> None:
    running.chunks.update(tally=counts)
    assert words in page_of(studio, running)


def test_a_shut_gate_a_stall_and_a_pause_of_the_studio_say_why(
    studio: Client, running: Message, creator: Creator
) -> None:
    Message.objects.update(stalled_at=NOW, moved_at=NOW)
    assert "It stands still" in page_of(studio, running)
    gate.rest("535 No", seconds=3600, now=timezone.now())
    assert "does not let us in" in page_of(studio, running)
    Creator.objects.update(paused_at=NOW, paused_because="Six in a hundred mails came back.")
    assert "Six in a hundred mails came back." in page_of(studio, running)
    assert "Six in a hundred mails came back." in studio.get(url("home")).content.decode()


# --- another time -----------------------------------------------------------------------------------------


def at(moment_in: timedelta) -> str:
    return clock(NOW + moment_in)


def test_a_scheduled_message_moves_to_another_time(studio: Client, message: Message, owner: User) -> None:
    confirm(message, owner, days=2)
    address = url("reschedule_message", message.release_id, message.pk)
    assert "Change the time" in page_of(studio, message)
    assert "Europe/Berlin" in studio.get(address).content.decode()
    assert (
        "at the new time"
        in studio.get(fill_in(studio, address, {"at": at(timedelta(days=3))})["Location"]).content.decode()
    )
    moved = Message.objects.get(pk=message.pk)
    assert moved.due_at
    assert moved.due_at > NOW + timedelta(days=2, hours=12)
    assert Release.objects.get(pk=message.release_id).publish_at == moved.due_at


def test_a_time_that_the_cap_forbids_is_refused_with_the_next_one_at_one_press(
    studio: Client, message: Message, owner: User, hobbyist: Group
) -> None:
    confirm(message, owner, days=20)
    for title in ("One", "Two"):
        bundle = factories.BundleFactory.create(creator=hobbyist.creator)
        release = factories.ReleaseFactory.create(
            creator=hobbyist.creator, title=title, bundles=[bundle], groups=[hobbyist]
        )
        other = services.start_message(release)
        other.subject = title
        other.save()
        services.confirm_message(other, request_id=uuid4(), due_at=NOW, by=owner, now=NOW)
    address = url("reschedule_message", message.release_id, message.pk)
    page = fill_in(studio, address, {"at": at(timedelta(days=1))}).content.decode()
    assert "Not moved: it stays where it was" in page
    assert "Move it to" in page
    assert Message.objects.get(pk=message.pk).due_at == NOW + timedelta(days=20)
    offer = page.split('name="at" value="')[1].split('"')[0]
    assert (
        "at the new time"
        in studio.post(address, {"at": offer, **hidden_in(page)}, follow=True).content.decode()
    )


def test_what_is_under_way_is_not_moved(studio: Client, running: Message) -> None:
    answer = studio.post(
        url("reschedule_message", running.release_id, running.pk), {"at": at(timedelta(days=1))}
    )
    assert answer.status_code == 302
    assert Message.objects.get(pk=running.pk).due_at == NOW


# --- taking back ------------------------------------------------------------------------------------------


def recall(studio: Client, release: Release, **changes: str) -> str:
    data = {"because": "The lid does not fit.", "typed": "recall", **changes}
    return studio.post(url("recall_release", release.pk), data, follow=True).content.decode()


def test_a_recall_names_what_is_lost_and_asks_for_a_reason_and_a_word(
    studio: Client, running: Message
) -> None:
    release = running.release
    page = studio.get(url("recall_release", release.pk)).content.decode()
    for sentence in [
        "1 person has it in the library",
        "3 people have not redeemed it",
        "3 people were not written to yet and will not be",
        "It cannot be undone",
    ]:
        assert sentence in page
    for wrong in [{"because": ""}, {"typed": ""}, {"typed": "yes"}]:
        assert "What is lost" in recall(studio, release, **wrong)
    release.refresh_from_db()
    assert release.recalled_at is None
    assert Holding.objects.live().count() == 1


def test_a_recall_takes_the_files_back_and_stops_the_mail(studio: Client, running: Message) -> None:
    release = running.release
    page = recall(studio, release, typed=" Recall ")
    assert "The lid does not fit." in page
    assert "Give it again as a new release" in page
    assert not Holding.objects.live().exists()
    assert state_of(running) == "cancelled"
    # A second press, in another tab: it is done already.
    assert "The lid does not fit." in recall(studio, release, because="Another reason")
    assert AuditEvent.objects.filter(verb="recalled release").count() == 1


def test_what_was_recalled_is_given_again_as_a_new_draft(studio: Client, running: Message) -> None:
    release = running.release
    assert studio.post(url("give_again", release.pk)).status_code == 404
    recall(studio, release)
    page = studio.post(url("give_again", release.pk), follow=True).content.decode()
    assert "The dragon" in page
    draft = Release.objects.get(state="draft")
    assert [item.bundle.title for item in draft.items.all()] == ["Dragon"]
    assert [str(row.group) for row in draft.audience_rows.all()] == ["Patrons · Hobbyist"]
    assert draft.title == "November"


def test_what_is_only_scheduled_is_not_recalled(studio: Client, message: Message, owner: User) -> None:
    confirm(message, owner, days=2)
    answer = studio.post(url("recall_release", message.release_id), {"because": "x", "typed": "recall"})
    assert answer.status_code == 302
    assert Release.objects.get(pk=message.release_id).recalled_at is None


def test_one_person_s_files_are_taken_back_and_the_list_says_so(
    studio: Client, running: Message, contact: Contact
) -> None:
    grant = Grant.objects.get(contact=contact)
    assert "Nobody else loses anything" in studio.get(url("revoke_grant", grant.pk)).content.decode()
    page = studio.post(url("revoke_grant", grant.pk), follow=True).content.decode()
    assert "Taken back from Mia Berg, and from nobody else." in page
    assert "taken back" in page
    assert not Holding.objects.live().exists()
    found = studio.get(url("recipients", running.release_id), {"state": "revoked"}).content.decode()
    assert "Mia Berg" in found
    assert "Person 0" not in found


# --- who may ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "may"), [("owner", 1), ("manager", 1), ("helper", 0), ("viewer", 0)])
def test_only_owners_and_managers_send_stop_and_take_back(
    running: Message, creator: Creator, client_of: Callable[[User | None], Client], role: str, may: int
) -> None:
    person = factories.UserFactory.create()
    Staff.objects.create(creator=creator, user=person, role=role)
    browser, release = client_of(person), running.release_id
    grant = Grant.objects.earliest("pk")
    mail = Delivery.objects.earliest("pk")
    draft = factories.ReleaseFactory.create(creator=creator)
    before = list(Message.objects.order_by("pk").values())
    guarded = [
        url("cancel_message", release, running.pk),
        url("recall_release", release),
        url("revoke_grant", grant.pk),
        url("change_address", release, mail.pk),
        url("reminder", release),
    ]
    assert {browser.get(page).status_code for page in guarded} == ({200} if may else {403})
    page = browser.get(url("release", release)).content.decode()
    assert ("Pause" in page) == ("Recall it" in page) == bool(may)
    if not may:
        acts = [url(f"{name}_message", release, running.pk) for name in ("pause", "resume", "reschedule")]
        acts += [
            url(name, release) for name in ("resend", "confirm_reminder", "unschedule_release", "take_newest")
        ]
        acts += [url(name, draft.pk) for name in ("confirm_release", "publish_release")]
        assert {browser.post(page, {"at": at(timedelta(1))}).status_code for page in [*guarded, *acts]} == {
            403
        }
        assert "Only an owner or a manager" in browser.post(acts[0]).content.decode()
        assert list(Message.objects.order_by("pk").values()) == before
    else:
        assert state_of(running) == "running"
        browser.post(url("pause_message", release, running.pk))
        assert state_of(running) == "paused"
