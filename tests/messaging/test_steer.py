"""Pause, resume, cancel and send once more: what is in flight lands, nothing else leaves, and the numbers add up."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from accounts.models import AuditEvent, Suppression, User
from accounts.services import suppress
from distribution.models import Grant
from distribution.services import fan_out_grants
from groups.models import Contact
from messaging import services
from messaging.mail import Mailing
from messaging.models import Chunk, Delivery, Message, RecentMail, SendSlot
from messaging.providers import Answer, Kind
from messaging.services import CannotSteer, plan
from messaging.services.chain import link
from messaging.services.eligible import told_by
from rows.clock import db_now
from rows.lease import LeaseQuerySet
from tests.messaging.test_chunks import DOUBT, Script, lapse, states

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


@pytest.fixture
def message(
    draft: Message, people: list[Contact], confirm: Callable[..., Message], start: Callable[..., Message]
) -> Message:
    return start(confirm(draft))


def send(message: Message, way: Script, now: datetime) -> None:
    chunk = services.open_chunk(owner="here:1", now=now)
    assert chunk is not None
    services.send_chunk(chunk, Mailing(message), way, clock=lambda: now, stop=lambda: False)


def state_of(message: Message) -> str:
    return Message.objects.values_list("state", flat=True).get(pk=message.pk)


def test_pausing_lets_what_is_in_flight_land_and_stops_the_rest(
    message: Message, owner: User, now: datetime
) -> None:
    way = Script(wave=2)
    way.hook = lambda: services.pause_message(message, by=owner, now=now)
    send(message, way, now)
    assert states() == ["accepted", "accepted", "planned", "planned", "planned"]
    assert state_of(message) == Message.State.PAUSED
    # Nobody has to wait for the lease of a worker that was told to stop.
    assert Chunk.objects.get().lease_until is None
    assert services.open_chunk(owner="other", now=now) is None
    assert services.progress(message, now=now).counts == {"accepted": 2, "planned": 3}
    assert list(AuditEvent.objects.filter(verb="pause message").values_list("actor", flat=True)) == [owner.pk]


def test_a_resumed_message_goes_on_where_it_stopped(message: Message, owner: User, now: datetime) -> None:
    services.pause_message(message, by=owner, now=now)
    services.pause_message(message, by=owner, now=now)
    services.resume_message(message, by=owner, now=now)
    services.resume_message(message, by=owner, now=now)
    assert AuditEvent.objects.filter(verb__in=["pause message", "resume message"]).count() == 2
    send(message, Script(wave=2), now)
    assert states() == ["accepted"] * 5
    assert state_of(message) == Message.State.DONE
    with pytest.raises(CannotSteer, match="not being sent any more"):
        services.pause_message(message, by=owner, now=now)


def test_a_message_paused_before_it_began_begins_when_it_is_resumed(
    draft: Message,
    people: list[Contact],
    owner: User,
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    now: datetime,
) -> None:
    confirm(draft)
    services.pause_message(draft, by=owner, now=now)
    assert start(draft).state == Message.State.PAUSED
    assert not Delivery.objects.exists()
    services.resume_message(draft, by=owner, now=now)
    assert start(draft).state == Message.State.RUNNING


def test_cancelling_stops_for_good_and_says_so_of_everyone_who_was_not_told(
    message: Message, owner: User, now: datetime
) -> None:
    way = Script([Answer(Kind.REFUSED, "no", 550)], wave=2)
    way.hook = lambda: services.cancel_message(message, by=owner, now=now)
    send(message, way, now)
    assert services.clear_cancelled(message.pk, now=now) == 0
    assert states() == ["failed", "accepted", "cancelled", "cancelled", "cancelled"]
    assert set(Delivery.objects.filter(state="cancelled").values_list("reason", flat=True)) == {"cancelled"}
    assert services.progress(message, now=now).counts == {"failed": 1, "accepted": 1, "cancelled": 3}
    services.cancel_message(message, by=owner, now=now)
    assert services.clear_cancelled(message.pk, now=now) == 0
    assert AuditEvent.objects.filter(verb="cancel message").count() == 1
    # Two were written to: the slot is used. The other three may hear of something else this week.
    assert SendSlot.objects.filter(released_at=None).count() == 1
    told = RecentMail.objects.filter(sender=message.release.creator_id).exclude(times="")
    assert sorted(told.values_list("address_key", flat=True)) == ["p0@example.net", "p1@example.net"]
    assert Grant.objects.count() == 5
    with pytest.raises(CannotSteer, match="cannot go on"):
        services.resume_message(message, by=owner, now=now)


def test_a_chunk_that_somebody_took_since_it_was_looked_for_is_left_to_them(
    message: Message, owner: User, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.cancel_message(message, by=owner, now=now)
    unleased = LeaseQuerySet.unleased
    looks = 0

    def taken_meanwhile(chunks: LeaseQuerySet[Chunk], at: datetime) -> LeaseQuerySet[Chunk]:
        nonlocal looks
        looks += 1
        if looks == 2:
            Chunk.objects.update(lease_until=at + timedelta(minutes=1))
        return unleased(chunks, at)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(LeaseQuerySet, "unleased", taken_meanwhile)
        assert services.clear_cancelled(message.pk, now=now) == 1
    assert states() == ["planned"] * 5
    Chunk.objects.update(lease_until=None)
    assert services.clear_cancelled(message.pk, now=now) == 0
    assert states() == ["cancelled"] * 5


def test_a_message_cancelled_before_anything_was_offered_gives_its_slot_back(
    message: Message, owner: User, now: datetime
) -> None:
    assert services.open_chunk(owner="x", now=now)
    services.cancel_message(message, by=owner, now=now)
    assert not SendSlot.objects.filter(released_at=None).exists()


def test_a_draft_cannot_be_cancelled(draft: Message, owner: User, now: datetime) -> None:
    with pytest.raises(CannotSteer, match="nothing left to cancel"):
        services.cancel_message(draft, by=owner, now=now)
    assert state_of(draft) == Message.State.DRAFT
    assert services.clear_cancelled(draft.pk, now=now) == 0


def test_planning_a_message_that_is_cancelled_meanwhile_stops_between_two_pages(
    draft: Message,
    people: list[Contact],
    owner: User,
    confirm: Callable[..., Message],
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    confirm(draft)
    fan_out_grants(draft.release_id, now=now)
    cut = plan._cut_chunks

    def cancel(message: Message, *, after: int, until: int) -> None:
        cut(message, after=after, until=until)
        services.cancel_message(draft, by=owner, now=now)

    monkeypatch.setattr(plan, "_cut_chunks", cancel)
    assert not services.plan_deliveries(draft.pk, now=now, page=2)
    assert Delivery.objects.count() == 2
    assert services.clear_cancelled(draft.pk, now=now) == 0
    assert states() == ["cancelled", "cancelled"]


def test_what_a_dead_worker_left_of_a_cancelled_message_is_in_doubt_once_its_lease_lapsed(
    message: Message, owner: User, now: datetime
) -> None:
    chunk = services.open_chunk(owner="dead", now=now)
    assert chunk is not None
    first = Delivery.objects.order_by("contact")[0]
    link(chunk, intend={first.pk: first.address_key}, told=told_by(first.message), seconds=60, now=now)
    services.cancel_message(message, by=owner, now=now)
    assert services.clear_cancelled(message.pk, now=now) == 1
    assert states()[0] == "sending"
    lapse()
    assert services.clear_cancelled(message.pk, now=now) == 0
    assert states() == ["unknown"] + ["cancelled"] * 4
    assert list(Message.objects.to_clear()) == []


def test_those_in_doubt_and_those_refused_are_written_to_once_more_in_the_same_slot(
    message: Message, people: list[Contact], owner: User, now: datetime
) -> None:
    refused = Answer(Kind.REFUSED, "5.2.2 full", 552)
    send(message, Script([DOUBT, refused, refused, refused]), now)
    suppress(people[2].address_key, Suppression.Reason.BOUNCE, now=now)
    Grant.objects.filter(contact=people[3]).update(revoked_at=now)
    everyone = Delivery.objects.filter(message=message)
    later = now + DAY
    assert services.resend(everyone, message=message, by=owner, now=later) == 2
    assert services.resend(everyone, message=message, by=owner, now=later) == 0
    assert state_of(message) == Message.State.RUNNING
    assert services.progress(message, now=later).counts == {"planned": 2, "failed": 2, "accepted": 1}
    way = Script()
    send(message, way, later)
    assert way.offered == ["p0@example.net", "p1@example.net"]
    assert state_of(message) == Message.State.DONE
    assert list(Delivery.objects.order_by("contact").values_list("attempts", flat=True)) == [2, 2, 1, 1, 1]
    assert SendSlot.objects.filter(released_at=None).count() == 1


def test_nothing_of_a_cancelled_or_recalled_message_is_sent_once_more(
    message: Message, owner: User, now: datetime
) -> None:
    send(message, Script([DOUBT]), now)
    everyone = Delivery.objects.filter(message=message)
    message.release.recalled_at = db_now()
    message.release.save(update_fields=["recalled_at"])
    with pytest.raises(CannotSteer, match="taken back"):
        services.resend(everyone, message=message, by=owner, now=now)
    assert states()[0] == "unknown"
