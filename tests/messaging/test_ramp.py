"""M7: where several creators share an installation, new ones write to few people at first."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEvent, User
from distribution.models import Grant
from groups.models import Contact, Creator, Group
from messaging import ramp, services
from messaging.models import Chunk, Delivery, Message, Ramp
from tests.factories import LONG_AGO, ContactFactory, CreatorFactory, MembershipFactory
from tests.messaging.test_recipient_cap import chunk_to, mailed, states

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


@pytest.fixture
def neighbour(stranger: User) -> Creator:
    """Somebody else who may send here."""
    return Creator.objects.get(name="Sam's Shop")


@pytest.fixture
def crowd(creator: Creator, hobbyist: Group, monkeypatch: pytest.MonkeyPatch) -> list[Contact]:
    """Twelve members, on a ramp of 3, 5 and 7 a day."""
    monkeypatch.setattr(ramp, "STAGES", (3, 5, 7))
    contacts = ContactFactory.create_batch(12, creator=creator)
    for contact in contacts:
        MembershipFactory.create(group=hobbyist, contact=contact)
    return contacts


def going(chunk: Chunk, now: datetime) -> int:
    """How many of the chunk's mails may go when it is opened."""
    creator = chunk.message.release.creator
    ramp.hold_back(chunk, creator=creator, now=now)
    Delivery.objects.of(chunk).due(now).update(charged_at=now)
    return Delivery.objects.of(chunk).due(now).count()


def offer(chunk: Chunk) -> None:
    Delivery.objects.of(chunk).filter(not_before=None).update(state=Delivery.State.ACCEPTED)


def test_a_new_creators_mail_goes_out_in_steps_and_everybody_has_the_files_at_once(
    neighbour: Creator,
    crowd: list[Contact],
    draft: Message,
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
    mailoutbox: list[object],
    now: datetime,
) -> None:
    message = start(confirm(draft))
    assert Grant.objects.count() == 12
    sent = []
    for hours in (0, 23, 24, 47, 48, 71, 72):
        work(at=now + hours * HOUR)
        sent.append(len(mailoutbox))
    assert sent == [3, 3, 8, 8, 12, 12, 12]
    message.refresh_from_db()
    assert (message.state, message.waits_because) == (Message.State.DONE, "")
    first_three = [contact.address_key for contact in crowd[:3]]
    assert [mail.to for mail in mailoutbox[:3]] == [[address] for address in first_three]  # type: ignore[attr-defined]


def test_when_the_days_number_is_used_up_the_message_waits_and_says_why(
    neighbour: Creator,
    crowd: list[Contact],
    creator: Creator,
    draft: Message,
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
    mailoutbox: list[object],
    now: datetime,
) -> None:
    Ramp.objects.create(creator=creator, day_began_at=now - HOUR, used=3)
    message = start(confirm(draft))
    work()
    message.refresh_from_db()
    assert not mailoutbox
    assert (message.state, message.due_at) == (Message.State.RUNNING, now + 23 * HOUR)
    assert "writes to 3 people a day for now" in message.waits_because
    assert "Sun 22 Nov. 2026, 12:00 (CET)" in message.waits_because
    assert services.progress(message, now=now).stage == "waiting"


def test_alone_on_an_installation_nobody_ramps(crowd: list[Contact], creator: Creator, now: datetime) -> None:
    CreatorFactory.create(approved_at=None)
    assert going(chunk_to(crowd), now) == 12
    assert not Ramp.objects.exists()
    assert ramp.forecast(creator, 12, at=now) == ""
    # One who has begun to ramp and whose neighbour left is alone, too.
    Ramp.objects.create(creator=creator, day_began_at=now, used=3)
    assert going(chunk_to(crowd), now) == 12


def test_three_clean_days_end_the_ramp(neighbour: Creator, crowd: list[Contact], now: datetime) -> None:
    for day, number in enumerate((3, 5, 7, 12)):
        assert going(chunk_to(crowd), now + day * DAY) == number
    assert Ramp.objects.get().stage == 3


def test_a_day_is_counted_from_its_first_mail_and_days_without_mail_raise_nothing(
    neighbour: Creator, crowd: list[Contact], now: datetime
) -> None:
    assert going(chunk_to(crowd[:2]), now) == 2
    assert going(chunk_to(crowd), now + DAY - timedelta(seconds=1)) == 1
    assert going(chunk_to(crowd), now + 9 * DAY) == 5
    assert Ramp.objects.values_list("stage", "day_began_at", "used").get() == (1, now + 9 * DAY, 5)


def test_a_day_on_which_a_breaker_tripped_is_not_clean(
    neighbour: Creator, crowd: list[Contact], now: datetime
) -> None:
    chunk = chunk_to(crowd)
    assert going(chunk, now) == 3
    Message.objects.update(tripped_at=now + HOUR)
    assert going(chunk_to(crowd), now + DAY) == 3
    assert Ramp.objects.get().stage == 0


def test_a_chunk_opened_again_on_a_day_lets_the_same_through_and_counts_them_once(
    neighbour: Creator, crowd: list[Contact], now: datetime
) -> None:
    chunk = chunk_to(crowd)
    for hours in range(4):
        assert going(chunk, now + hours * HOUR) == 3
    assert Ramp.objects.get().used == 3
    # On the next day they count again, as they go only then.
    assert going(chunk, now + DAY) == 5
    assert Ramp.objects.get().used == 5


def test_whoever_the_recipients_cap_stops_takes_nobodys_place(
    neighbour: Creator, crowd: list[Contact], now: datetime
) -> None:
    for _each in range(3):
        mailed(crowd[0], now)
    chunk = chunk_to(crowd)
    going(chunk, now)
    held_back = Delivery.objects.of(chunk).filter(not_before=now + DAY)
    assert {row.contact_id for row in held_back} == {contact.pk for contact in crowd[4:]}


def test_nothing_to_send_begins_no_day(neighbour: Creator, crowd: list[Contact], now: datetime) -> None:
    chunk = chunk_to(crowd)
    offer(chunk)
    assert going(chunk, now) == 0
    assert Ramp.objects.get().day_began_at is None


@pytest.mark.parametrize(("arrived", "stage"), [(2, 0), (3, 1), (5, 2), (6, 2), (7, 3)])
def test_who_wrote_to_people_before_others_came_begins_where_that_has_brought_them(
    neighbour: Creator, crowd: list[Contact], now: datetime, arrived: int, stage: int
) -> None:
    for tally in ({"accepted": arrived - 1, "delivered": 1, "failed": 99}, {"accepted": 1}):
        earlier = chunk_to(crowd[:1])
        Chunk.objects.filter(pk=earlier.pk).update(tally=tally)
    Delivery.objects.update(state=Delivery.State.ACCEPTED)
    assert going(chunk_to(crowd), now) == [3, 5, 7, 12][stage]
    assert Ramp.objects.get().stage == stage


def test_a_message_that_a_breaker_stopped_is_no_history(
    neighbour: Creator, crowd: list[Contact], creator: Creator, now: datetime
) -> None:
    Chunk.objects.filter(pk=chunk_to(crowd).pk).update(tally={"accepted": 99})
    Message.objects.update(tripped_at=LONG_AGO)
    assert going(chunk_to(crowd), now) == 3


def test_an_admin_lifts_it_and_what_waited_goes_at_once(
    neighbour: Creator,
    crowd: list[Contact],
    creator: Creator,
    draft: Message,
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
    mailoutbox: list[object],
    owner: User,
    now: datetime,
) -> None:
    message = start(confirm(draft))
    work()
    Message.objects.filter(pk=message.pk).update(due_at=now + DAY, waits_because="the ramp")
    assert len(mailoutbox) == 3
    assert ramp.lift(creator, by=owner, now=now + HOUR)
    assert not ramp.lift(creator, by=owner, now=now + 2 * HOUR)
    work(at=now + HOUR)
    message.refresh_from_db()
    assert (len(mailoutbox), message.state) == (12, Message.State.DONE)
    assert list(AuditEvent.objects.filter(verb="lifted ramp").values_list("actor", "creator_id")) == [
        (owner.pk, creator.pk)
    ]
    assert str(Ramp.objects.get()) == "Ana's Forge: stage 0"


def test_it_can_be_lifted_before_anything_was_sent(
    neighbour: Creator, crowd: list[Contact], creator: Creator, owner: User, now: datetime
) -> None:
    assert ramp.lift(creator, by=owner, now=now)
    assert going(chunk_to(crowd), now) == 12


@pytest.mark.parametrize(
    ("people", "used", "says"),
    [
        (3, 0, ""),
        (4, 0, "3 at once, 1 a day later."),
        (12, 0, "3 at once, 5 a day later, 4 after 2 days."),
        (2000, 2, "1 at once, 5 a day later, 7 after 2 days, 1,987 after 3 days."),
        (4, 3, "4 a day later."),
    ],
)
def test_the_check_says_how_the_mail_would_go_out(
    neighbour: Creator,
    crowd: list[Contact],
    creator: Creator,
    now: datetime,
    people: int,
    used: int,
    says: str,
) -> None:
    if used:
        Ramp.objects.create(creator=creator, day_began_at=now - HOUR, used=used)
    found = ramp.forecast(creator, people, at=now)
    assert (says in found) if says else not found
    # A day later the next stage has begun, if this day had mail.
    assert ("5 at once" in ramp.forecast(creator, 12, at=now + DAY)) == bool(used)


def test_the_outlook_warns_of_it(
    neighbour: Creator, crowd: list[Contact], draft: Message, now: datetime
) -> None:
    [warning] = services.outlook(draft, now=now).warnings
    assert warning == (
        "Your studio is new here, so its mail starts small: 3 at once, 5 a day later, 4 after 2 days."
        " Everybody has the files at once."
    )


def test_the_real_numbers_are_those_of_the_rule() -> None:
    assert ramp.STAGES == (50, 500, 5_000)


def test_an_admin_lifts_the_ramp_on_its_page(
    neighbour: Creator, crowd: Sequence[Contact], creator: Creator, now: datetime, client: Client
) -> None:
    going(chunk_to(crowd), now)
    client.force_login(User.objects.create_superuser(email="root@example.org", password=None))
    page = reverse("admin:messaging_ramp_changelist")
    assert client.get(page).status_code == 200
    client.post(page, {"action": "lift", "_selected_action": [creator.pk]})
    assert Ramp.objects.get().lifted_at
    assert AuditEvent.objects.get(verb="lifted ramp").actor
    change = reverse("admin:messaging_ramp_change", args=[creator.pk])
    assert client.post(change, {"stage": 3}).status_code == 403


def test_states_of_those_held_back_stay_planned(
    neighbour: Creator, crowd: list[Contact], now: datetime
) -> None:
    chunk = chunk_to(crowd)
    going(chunk, now)
    assert set(states(chunk)) == {("planned", "")}
