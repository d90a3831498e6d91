"""One chunk at a time: what is offered, what is recorded, and what a worker that lost its chunk may still do."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import OperationalError, connection

from accounts.models import Suppression
from accounts.services import suppress
from distribution.models import Grant
from distribution.services import fan_out_grants
from groups.models import Contact, Creator, Membership
from messaging import services
from messaging.mail import Mail, Mailing, Recipient
from messaging.models import Chunk, Delivery, Message, Preference
from messaging.providers import Answer, Kind, NotOpen, SignInRefused
from messaging.services import chunks, plan, sending
from messaging.services.chain import Link, Settled, link
from messaging.services.eligible import told_by
from rows.clock import db_now
from tests.factories import BundleFactory, GroupFactory, MembershipFactory, ReleaseFactory

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
OK = Answer(Kind.ACCEPTED, code=250, provider_id="queued as 1")
DOUBT = Answer(Kind.IN_DOUBT, "timed out")


class Script:
    """A mail system that answers from a list, then OK; what it was offered is in `offered`."""

    name = "script"
    shares_calls = False
    replays_for = None
    searches = False

    def __init__(
        self,
        answers: Iterable[Answer | Exception] = (),
        *,
        closed: Exception | None = None,
        hook: Callable[[], None] | None = None,
        wave: int = 1,
    ) -> None:
        self.answers, self.closed, self.hook, self.wave = list(answers), closed, hook, wave
        self.offered: list[str] = []
        self.open_now = False

    def open(self) -> int:
        if self.closed:
            raise self.closed
        self.open_now = True
        return self.wave

    def close(self) -> None:
        self.open_now = False

    def offer(self, mails: Sequence[Mail]) -> list[Answer]:
        assert self.open_now
        assert 0 < len(mails) <= self.wave
        return [self.answer_to(mail) for mail in mails]

    def answer_to(self, mail: Mail) -> Answer:
        # The intent is written before anything is offered.
        assert Delivery.objects.get(pk=mail.recipient.delivery).state == Delivery.State.SENDING
        answer = self.answers.pop(0) if self.answers else OK
        if isinstance(answer, NotOpen):
            self.closed = answer
            return Answer(Kind.NOT_OFFERED, str(answer))
        self.offered.append(mail.address)
        if self.hook:
            self.hook()
        return answer


@pytest.fixture
def message(
    draft: Message, people: list[Contact], confirm: Callable[..., Message], start: Callable[..., Message]
) -> Message:
    return start(confirm(draft))


def states() -> list[str]:
    return list(Delivery.objects.order_by("contact").values_list("state", flat=True))


def lapse() -> None:
    Chunk.objects.update(lease_until=db_now() - DAY)


@pytest.mark.parametrize(
    ("answer", "state", "reason"),
    [
        (OK, "accepted", ""),
        (Answer(Kind.REFUSED, "5.2.2 mailbox full", 552), "failed", "5.2.2 mailbox full"),
        (Answer(Kind.LATER, "4.2.0 greylisted", 451), "planned", "4.2.0 greylisted"),
        (DOUBT, "unknown", "timed out"),
    ],
)
def test_each_answer_is_recorded_and_stops_nobody_elses_mail(
    message: Message, work: Callable[..., None], answer: Answer, state: str, reason: str
) -> None:
    way = Script([OK, answer])
    work(way)
    assert states() == ["accepted", state, "accepted", "accepted", "accepted"]
    bad = Delivery.objects.order_by("contact")[1]
    assert (bad.reason, bad.smtp_code, bad.attempts) == (reason, answer.code, 1)
    assert len(way.offered) == 5
    assert not way.open_now
    message.refresh_from_db()
    assert message.state == (Message.State.RUNNING if state == "planned" else Message.State.DONE)


def test_an_address_that_does_not_exist_is_not_written_to_again(
    message: Message, work: Callable[..., None]
) -> None:
    work(Script([Answer(Kind.REFUSED, "5.1.1 no such user", 550, no_such_address=True)]))
    assert list(Suppression.objects.live().values_list("address_key", "reason")) == [
        ("p0@example.net", "bounce")
    ]
    assert states()[0] == "failed"


def test_what_was_certainly_not_taken_is_offered_again_later_each_time_and_at_last_given_up(
    message: Message, work: Callable[..., None], now: datetime
) -> None:
    later = Answer(Kind.LATER, "try later", 451)
    work(Script([later]))
    offered_at = Delivery.objects.order_by("contact")[0].offered_at
    at = now
    for wait in sending.BACKOFF:
        waiting = Delivery.objects.order_by("contact")[0]
        assert waiting.not_before == Chunk.objects.get().not_before == at + wait
        too_early = Script()
        work(too_early, at=at + wait - timedelta(seconds=1))
        assert too_early.offered == []
        at += wait
        work(Script([later]), at=at)
    given_up = Delivery.objects.order_by("contact")[0]
    assert (given_up.state, given_up.attempts) == (Delivery.State.FAILED, len(sending.BACKOFF) + 1)
    # The mail's Date: the same on every attempt.
    assert given_up.offered_at == offered_at
    message.refresh_from_db()
    assert message.state == Message.State.DONE


@pytest.mark.parametrize(
    "closed", [NotOpen("The server is away."), SignInRefused("They refuse our sign-in.")]
)
def test_without_a_connection_the_message_waits_says_why_and_nothing_is_in_doubt(
    message: Message, work: Callable[..., None], now: datetime, closed: NotOpen
) -> None:
    work(Script(closed=closed))
    assert states() == ["planned"] * 5
    assert set(Delivery.objects.values_list("attempts", flat=True)) == {0}
    message.refresh_from_db()
    assert (message.due_at, message.waits_because) == (now + timedelta(seconds=closed.seconds), str(closed))
    found = services.progress(message, now=now)
    assert (found.stage, found.waits_because) == ("waiting", str(closed))
    # Nobody tries before then; then it goes on where it was.
    idle = Script()
    work(idle)
    assert idle.offered == []
    work(Script(), at=message.due_at)
    message.refresh_from_db()
    assert (message.state, message.waits_because) == (Message.State.DONE, "")


def test_a_sender_refused_after_the_intent_counts_no_attempt(
    message: Message, work: Callable[..., None]
) -> None:
    work(Script([OK, SignInRefused("They refuse our sender.")]))
    assert states() == ["accepted", "planned", "planned", "planned", "planned"]
    assert set(Delivery.objects.filter(state="planned").values_list("attempts", flat=True)) == {0}


def test_one_doubt_after_the_other_stops_the_message_before_everybody_is_in_doubt(
    message: Message, work: Callable[..., None]
) -> None:
    work(Script([DOUBT] * 5))
    assert states() == ["unknown", "unknown", "unknown", "planned", "planned"]
    message.refresh_from_db()
    assert "no clear answer" in message.waits_because


def test_single_doubts_between_good_answers_stop_nothing(message: Message, work: Callable[..., None]) -> None:
    work(Script([DOUBT, DOUBT, OK, DOUBT, DOUBT]))
    assert states() == ["unknown", "unknown", "accepted", "unknown", "unknown"]


# --- who may still send ---------------------------------------------------------------------------------


def test_what_a_lost_worker_was_handing_over_is_in_doubt_and_the_rest_goes_on(
    message: Message, work: Callable[..., None], now: datetime
) -> None:
    chunk = services.open_chunk(owner="lost", now=now)
    assert chunk is not None
    first = Delivery.objects.order_by("contact")[0]
    link(chunk, intend={first.pk: first.address_key}, told=told_by(first.message), seconds=60, now=now)
    # Nobody takes it while the lease holds.
    idle = Script()
    work(idle)
    assert idle.offered == []
    lapse()
    way = Script()
    work(way)
    assert states() == ["unknown", "accepted", "accepted", "accepted", "accepted"]
    assert first.address_key not in way.offered
    [listed] = services.unknown_deliveries(message)
    assert (listed.contact, listed.said) == (first.contact, Delivery.Reason.WORKER_LOST.label)


def test_a_stalled_worker_that_wakes_after_its_lease_offers_nothing_more_and_says_what_it_knows(
    message: Message, work: Callable[..., None], now: datetime
) -> None:
    stalled = services.open_chunk(owner="stalled", now=now)
    assert stalled is not None
    first, second = Delivery.objects.order_by("contact")[:2]
    link(stalled, intend={first.pk: first.address_key}, told=told_by(first.message), seconds=60, now=now)
    lapse()
    other = services.open_chunk(owner="other", now=now)
    assert other is not None
    late = link(
        stalled,
        settled=[Settled(first.pk, 1, "accepted")],
        intend={second.pk: second.address_key},
        told=told_by(second.message),
        seconds=60,
        now=now,
    )
    assert (late.ours, late.goes_on, late.offered) == (False, False, frozenset())
    # It was in doubt; the answer that was heard after all is evidence. Nothing else is its to change.
    assert states() == ["accepted", "planned", "planned", "planned", "planned"]
    services.close_chunk(stalled, settled=[Settled(second.pk, 1, "accepted")], now=now)
    assert states() == ["accepted", "planned", "planned", "planned", "planned"]
    assert Chunk.objects.get().lease_until is not None


def test_a_late_answer_plans_nothing_again_and_never_speaks_of_a_later_attempt(
    message: Message, now: datetime
) -> None:
    stalled = services.open_chunk(owner="stalled", now=now)
    assert stalled is not None
    first = Delivery.objects.order_by("contact")[0]
    link(stalled, intend={first.pk: first.address_key}, told=told_by(first.message), seconds=60, now=now)
    lapse()
    assert services.open_chunk(owner="other", now=now)
    link(stalled, settled=[Settled(first.pk, 1, "planned", counts=False)], seconds=60, now=now)
    assert states()[0] == "unknown"
    Delivery.objects.filter(pk=first.pk).update(state="sending", attempts=2)
    link(stalled, settled=[Settled(first.pk, 1, "failed")], seconds=60, now=now)
    assert states()[0] == "sending"


def test_an_attempt_that_did_not_count_is_taken_back_by_who_has_the_chunk_only(
    message: Message, now: datetime
) -> None:
    """Its number is used again: who comes back with it a second time must not speak of another's mail."""
    first = services.open_chunk(owner="first", now=now)
    assert first is not None
    delivery = Delivery.objects.order_by("contact")[0]
    link(
        first, intend={delivery.pk: delivery.address_key}, told=told_by(delivery.message), seconds=60, now=now
    )
    back = Settled(delivery.pk, 1, "planned", counts=False)
    services.close_chunk(first, settled=[back], now=now)
    second = services.open_chunk(owner="second", now=now)
    assert second is not None
    link(
        second,
        intend={delivery.pk: delivery.address_key},
        told=told_by(delivery.message),
        seconds=60,
        now=now,
    )
    services.close_chunk(first, settled=[back], now=now)
    delivery.refresh_from_db()
    assert (delivery.state, delivery.attempts) == ("sending", 1)


def test_a_chunk_with_a_mail_still_being_handed_over_is_not_done(message: Message, now: datetime) -> None:
    chunk = services.open_chunk(owner="x", now=now)
    assert chunk is not None
    *others, last = Delivery.objects.order_by("contact")
    Delivery.objects.filter(pk__in=[one.pk for one in others]).update(state="accepted")
    link(chunk, intend={last.pk: last.address_key}, told=told_by(last.message), seconds=60, now=now)
    services.close_chunk(chunk, settled=[], now=now)
    assert Chunk.objects.get().state == Chunk.State.OPEN
    assert services.open_chunk(owner="next", now=now)
    assert states()[-1] == "unknown"


def test_a_worker_overtaken_in_the_middle_of_its_chunk_stops_at_the_next_mail(
    message: Message, now: datetime
) -> None:
    chunk = services.open_chunk(owner="slow", now=now)
    assert chunk is not None

    def overtake() -> None:
        lapse()
        assert services.open_chunk(owner="other", now=now)

    way = Script(hook=overtake)
    services.send_chunk(chunk, Mailing(message), way, clock=lambda: now, stop=lambda: False)
    assert len(way.offered) == 1
    assert states() == ["accepted", "planned", "planned", "planned", "planned"]


def test_pausing_the_creator_stops_at_the_next_mail_and_keeps_what_was_said(
    message: Message, creator: Creator, work: Callable[..., None], now: datetime
) -> None:
    def pause() -> None:
        Creator.objects.filter(pk=creator.pk).update(paused_at=now)

    work(Script([Answer(Kind.REFUSED, "no", 550)], hook=pause))
    assert states() == ["failed", "planned", "planned", "planned", "planned"]
    message.refresh_from_db()
    assert services.progress(message, now=now).stage == "paused"
    Creator.objects.filter(pk=creator.pk).update(paused_at=None)
    work(Script())
    assert states() == ["failed", "accepted", "accepted", "accepted", "accepted"]


def test_a_worker_that_is_asked_to_go_ends_between_two_mails(message: Message, now: datetime) -> None:
    way = Script()
    services.send_waiting(owner="x", provider=way, clock=lambda: now, stop=lambda: len(way.offered) == 2)
    assert states() == ["accepted", "accepted", "planned", "planned", "planned"]
    chunk = Chunk.objects.get()
    assert (chunk.lease_until, chunk.not_before, chunk.state) == (None, None, "open")
    assert chunk.tally == {"accepted": 2, "planned": 3}


def test_who_unsubscribes_or_is_suppressed_after_planning_is_dropped_when_the_chunk_opens(
    message: Message, people: list[Contact], work: Callable[..., None], now: datetime
) -> None:
    suppress(people[1].address_key, Suppression.Reason.BOUNCE, now=now)
    Preference.objects.create(creator=people[0].creator, contact=people[0], choice="nothing", changed_at=now)
    work(Script())
    assert states() == ["skipped", "suppressed", "accepted", "accepted", "accepted"]


def test_who_unsubscribes_while_the_chunk_is_being_sent_is_not_written_to(
    message: Message, people: list[Contact], work: Callable[..., None], now: datetime
) -> None:
    way = Script(hook=lambda: services.set_preference(people[3], Preference.Choice.NOTHING, now=now))
    work(way)
    assert states() == ["accepted", "accepted", "accepted", "skipped", "accepted"]
    assert people[3].address_key not in way.offered


def test_the_intent_goes_on_for_nobody_twice(message: Message, now: datetime) -> None:
    chunk = services.open_chunk(owner="x", now=now)
    assert chunk is not None
    first = Delivery.objects.order_by("contact")[0]
    assert link(
        chunk, intend={first.pk: first.address_key}, told=told_by(first.message), seconds=60, now=now
    ).offered == {first.pk}
    assert (
        link(
            chunk, intend={first.pk: first.address_key}, told=told_by(first.message), seconds=60, now=now
        ).offered
        == frozenset()
    )


def test_a_wave_is_written_down_offered_and_recorded_as_one(
    message: Message, work: Callable[..., None]
) -> None:
    way = Script([OK, Answer(Kind.REFUSED, "no", 550), DOUBT], wave=2)
    work(way)
    assert states() == ["accepted", "failed", "unknown", "accepted", "accepted"]
    assert len(way.offered) == 5


def test_who_was_refused_in_a_shared_call_goes_alone_next(
    message: Message, work: Callable[..., None], now: datetime
) -> None:
    later = Answer(Kind.LATER, "one of these is bad", 422)
    way = Script([OK, later, later], wave=3)
    way.shares_calls = True
    work(way)
    assert states() == ["accepted", "planned", "planned", "accepted", "accepted"]
    assert [one.wave for one in Delivery.objects.order_by("contact")] == [
        (first := Delivery.objects.order_by("contact")[0].pk),
        first,
        first,
        first + 3,
        first + 3,
    ]
    sizes: list[int] = []
    way.hook = lambda: sizes.append(Delivery.objects.filter(state="sending").count())
    work(way, at=now + sending.BACKOFF[0])
    assert sizes == [1, 1]


def test_who_left_or_was_taken_the_files_from_is_not_written_to(
    message: Message, people: list[Contact], work: Callable[..., None], now: datetime
) -> None:
    Membership.objects.filter(contact=people[0]).update(ended_at=now)
    Grant.objects.filter(contact=people[1]).update(revoked_at=now)
    work(Script())
    assert states() == ["cancelled", "cancelled", "accepted", "accepted", "accepted"]
    assert list(Delivery.objects.order_by("contact").values_list("reason", flat=True))[:2] == [
        "left",
        "revoked",
    ]


def beyond_words(contact: Contact) -> None:
    """An address that no mail can be written to, as no rule of ours let in."""
    Contact.objects.filter(pk=contact.pk).update(address_key="pü@example.net")
    Delivery.objects.filter(contact=contact).update(address_key="pü@example.net")


@pytest.mark.parametrize("wave", [1, 2, 5])
@pytest.mark.parametrize("at", [0, 1, 4])
def test_a_mail_that_cannot_be_written_fails_alone_however_few_go_at_once(
    message: Message, people: list[Contact], work: Callable[..., None], wave: int, at: int
) -> None:
    beyond_words(people[at])
    way = Script(wave=wave)
    work(way)
    assert len(way.offered) == 4
    assert states() == ["accepted"] * at + ["failed"] + ["accepted"] * (4 - at)
    assert Delivery.objects.get(state="failed").reason == "unwritable"
    message.refresh_from_db()
    assert message.state == Message.State.DONE


def test_it_fails_alone_at_a_slow_rate_and_with_djangos_own_backends_too(
    message: Message,
    people: list[Contact],
    work: Callable[..., None],
    settings: LazySettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A mail's turn comes every second, and the clock of this test stands still.
    monkeypatch.setattr("messaging.gate.STEP_SECONDS", 60.0)
    monkeypatch.setattr("messaging.gate.time.sleep", lambda _seconds: None)
    settings.MAIL_RATE = 0.9
    beyond_words(people[0])
    work(Script(wave=5))
    assert states()[0] == "failed"
    settings.MAIL_RATE = 0
    work()
    assert states() == ["failed"] + ["accepted"] * 4


@pytest.mark.parametrize("wave", [1, 2])
def test_a_message_that_cannot_be_written_waits_and_puts_nobody_in_doubt(
    message: Message, work: Callable[..., None], monkeypatch: pytest.MonkeyPatch, wave: int
) -> None:
    def stumble(mailing: Mailing, recipient: Recipient) -> Mail:
        raise ValueError("a template nobody tried")

    monkeypatch.setattr(Mailing, "to", stumble)
    work(Script(wave=wave))
    assert states() == ["planned"] * 5
    message.refresh_from_db()
    assert "could not be written" in message.waits_because


def test_links_that_cannot_be_made_for_anybody_fail_nobody(
    message: Message, work: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> str:
        raise ValueError("no key")

    monkeypatch.setattr("messaging.mail.recipients.issue_ticket", broken)
    work(Script())
    assert states() == ["planned"] * 5


def test_who_is_suppressed_or_leaves_while_a_slow_chunk_is_sent_is_not_written_to(
    message: Message, people: list[Contact], now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "LOOK_SECONDS", -1.0)

    def change() -> None:
        suppress(people[2].address_key, Suppression.Reason.BOUNCE, now=now)
        Membership.objects.filter(contact=people[3]).update(ended_at=now)

    chunk = services.open_chunk(owner="x", now=now)
    assert chunk is not None
    services.send_chunk(chunk, Mailing(message), Script(hook=change), clock=lambda: now, stop=lambda: False)
    assert states() == ["accepted", "accepted", "suppressed", "cancelled", "accepted"]


def test_a_chunk_that_is_not_ours_any_more_is_not_looked_through(
    message: Message, people: list[Contact], now: datetime
) -> None:
    stalled = services.open_chunk(owner="stalled", now=now)
    assert stalled is not None
    lapse()
    assert services.open_chunk(owner="other", now=now)
    suppress(people[2].address_key, Suppression.Reason.BOUNCE, now=now)
    chunks.look_again(stalled, now=now)
    assert states() == ["planned"] * 5


def test_a_worker_stopped_between_intent_and_offer_offers_nothing_when_it_wakes(
    message: Message, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunk = services.open_chunk(owner="x", now=now)
    assert chunk is not None
    seconds = iter(range(0, 10_000, 100))
    monkeypatch.setattr("time.monotonic", lambda: next(seconds))
    way = Script(wave=5)
    services.send_chunk(chunk, Mailing(message), way, clock=lambda: now, stop=lambda: False)
    assert way.offered == []
    assert states() == ["planned"] * 5
    assert set(Delivery.objects.values_list("attempts", flat=True)) == {0}


@pytest.mark.parametrize("written", [True, False])
def test_a_database_that_goes_away_hears_later_what_became_of_the_mails(
    message: Message, now: datetime, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    """The answer to a chained commit is lost, whether it was committed or not."""
    chunk = services.open_chunk(owner="x", now=now)
    assert chunk is not None
    links = 0

    def lost(*args: Any, **kwargs: Any) -> Link:
        nonlocal links
        links += 1
        if links == 2:
            if written:
                link(*args, **kwargs)
            raise OperationalError("server closed the connection unexpectedly")
        return link(*args, **kwargs)

    monkeypatch.setattr(sending, "link", lost)
    monkeypatch.setattr(sending, "PATIENCE", (0.0,))
    monkeypatch.setattr(connection, "close", lambda: None)
    way = Script(wave=2)
    with pytest.raises(OperationalError):
        services.send_chunk(chunk, Mailing(message), way, clock=lambda: now, stop=lambda: False)
    assert states() == ["accepted", "accepted", "planned", "planned", "planned"]
    assert set(Delivery.objects.filter(state="planned").values_list("attempts", flat=True)) == {0}
    assert Chunk.objects.get().lease_until is None
    services.send_waiting(owner="x", provider=way, clock=lambda: now, stop=lambda: False)
    assert states() == ["accepted"] * 5
    assert len(set(way.offered)) == len(way.offered) == 5


def test_a_database_that_stays_away_leaves_the_wave_in_doubt_and_its_worker_tells_why(
    message: Message,
    work: Callable[..., None],
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def away(*args: Any, **kwargs: Any) -> Any:
        raise OperationalError("server closed the connection unexpectedly")

    with monkeypatch.context() as gone:
        gone.setattr(sending, "close_chunk", away)
        gone.setattr(sending, "PATIENCE", (0.0, 0.0))
        gone.setattr(connection, "close", lambda: None)
        with pytest.raises(OperationalError):
            work(Script(wave=5))
    assert caplog.text.count("no database to tell: OperationalError") == 2
    assert states() == ["sending"] * 5
    # Nobody offers them again: after the lease they are in doubt, and what became of them is asked for.
    lapse()
    again = Script(wave=5)
    work(again)
    assert again.offered == []
    assert states() == ["unknown"] * 5


def test_a_worker_asked_to_go_while_it_waits_for_its_turn_leaves_nothing_in_doubt(
    message: Message, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunk, way = services.open_chunk(owner="x", now=now), Script(wave=5)
    assert chunk is not None
    monkeypatch.setattr(sending.gate, "wait_turn", lambda *args, **kwargs: False)
    services.send_chunk(chunk, Mailing(message), way, clock=lambda: now, stop=lambda: False)
    assert way.offered == []
    assert states() == ["planned"] * 5
    assert set(Delivery.objects.values_list("attempts", flat=True)) == {0}
    assert Chunk.objects.get().lease_until is None


def test_small_messages_do_not_wait_for_the_last_chunk_of_a_large_one(
    message: Message,
    creator: Creator,
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan, "CHUNK", 1)
    large, small = (GroupFactory.create(creator=creator) for _each in range(2))
    for _each in range(3):
        MembershipFactory.create(group=large)
    MembershipFactory.create(group=small)
    Chunk.objects.all().delete()
    for group in (large, small):
        other = services.start_message(
            ReleaseFactory.create(
                creator=creator, bundles=[BundleFactory.create(creator=creator)], groups=[group]
            )
        )
        Message.objects.filter(pk=other.pk).update(subject=group.name)
        start(confirm(other))
    opened = [services.open_chunk(owner="x", now=now) for _each in range(4)]
    assert [(chunk.message.subject, chunk.number) for chunk in opened if chunk] == [
        (large.name, 0),
        (small.name, 0),
        (large.name, 1),
        (large.name, 2),
    ]
    assert services.open_chunk(owner="x", now=now) is None


def test_words_that_grew_too_long_since_make_the_message_wait(
    message: Message, work: Callable[..., None]
) -> None:
    Message.objects.filter(pk=message.pk).update(body="- a\n" * 5000)
    work(Script())
    message.refresh_from_db()
    assert "shorter" in message.waits_because
    assert states() == ["planned"] * 5


def test_a_message_with_nobody_left_to_tell_ends_by_itself(
    message: Message, people: list[Contact], work: Callable[..., None], now: datetime
) -> None:
    for contact in people:
        services.set_preference(contact, Preference.Choice.NOTHING, now=now)
    work(Script())
    message.refresh_from_db()
    assert message.state == Message.State.DONE
    assert not services.finish_message(message.pk, now=now)


# --- how far it is -----------------------------------------------------------------------------------------


def test_progress_adds_up_at_every_moment(
    message: Message, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, int]] = []

    def look() -> None:
        found = services.progress(message, now=now + timedelta(seconds=10))
        assert sum(found.counts.values()) == found.total == 5
        seen.append(found.counts)

    services.send_waiting(owner="x", provider=Script(hook=look), clock=lambda: now, stop=lambda: False)
    assert seen[0] == {"sending": 1, "planned": 4}
    assert seen[-1] == {"accepted": 4, "sending": 1}
    halfway = services.progress(message, now=now)
    assert (halfway.finished, halfway.percent) == (5, 100)


def test_progress_tells_the_speed_and_the_time_left(message: Message, now: datetime) -> None:
    way = Script()
    assert services.progress(message, now=now).rate is None
    services.send_waiting(owner="x", provider=way, clock=lambda: now, stop=lambda: len(way.offered) == 2)
    found = services.progress(message, now=now + timedelta(seconds=60))
    assert (found.rate, found.time_left, found.percent) == (2.0, timedelta(seconds=90), 40)


def test_the_stages_of_a_message(
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    work: Callable[..., None],
    now: datetime,
) -> None:
    def stage(at: datetime) -> str:
        found = Message.objects.select_related("release__creator").get(pk=draft.pk)
        return services.progress(found, now=at).stage

    due = now + DAY
    assert stage(now) == "draft"
    confirm(draft, due_at=due)
    assert stage(now) == "scheduled"
    assert stage(due) == "giving"
    fan_out_grants(draft.release_id, now=due)
    assert stage(due) == "preparing"
    services.plan_deliveries(draft.pk, now=due)
    services.begin_sending(draft.pk, now=due)
    assert stage(due) == "sending"
    work(Script(), at=due)
    assert stage(due) == "done"


def test_people_by_state_are_found_by_the_chunks_that_hold_them(
    message: Message, work: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    work(Script([DOUBT]))
    assert services.unknown_deliveries(message).count() == 1
    assert services.deliveries_in(message, Delivery.State.ACCEPTED).count() == 4
    assert services.deliveries_in(message, Delivery.State.FAILED).count() == 0
    # With very many ranges the state alone decides.
    monkeypatch.setattr("messaging.services.numbers.RANGES", 0)
    assert services.unknown_deliveries(message).count() == 1
