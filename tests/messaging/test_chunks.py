"""One chunk at a time: what is offered, what is recorded, and what a worker that lost its chunk may still do."""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

import pytest

from accounts.models import Suppression
from accounts.services import suppress
from distribution.services import fan_out_grants
from groups.models import Contact, Creator
from messaging import services
from messaging.mail import Mail, Mailing
from messaging.models import Chunk, Delivery, Message, Preference
from messaging.providers import Answer, Kind, NotOpen, SignInRefused
from messaging.services import chunks, plan
from messaging.services.chain import Settled, link
from rows.clock import db_now
from tests.factories import BundleFactory, GroupFactory, MembershipFactory, ReleaseFactory

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
OK = Answer(Kind.ACCEPTED, code=250, provider_id="queued as 1")
DOUBT = Answer(Kind.IN_DOUBT, "timed out")


class Script:
    """A mail system that answers from a list, then OK; what it was offered is in `offered`."""

    def __init__(
        self,
        answers: Iterable[Answer | Exception] = (),
        *,
        closed: Exception | None = None,
        hook: Callable[[], None] | None = None,
    ) -> None:
        self.answers, self.closed, self.hook = list(answers), closed, hook
        self.offered: list[str] = []
        self.open_now = False

    def open(self) -> None:
        if self.closed:
            raise self.closed
        self.open_now = True

    def close(self) -> None:
        self.open_now = False

    def offer(self, mail: Mail) -> Answer:
        assert self.open_now
        # The intent is written before anything is offered.
        assert Delivery.objects.get(address_key=mail.address).state == Delivery.State.SENDING
        answer = self.answers.pop(0) if self.answers else OK
        if isinstance(answer, Exception):
            raise answer
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
    for wait in chunks.BACKOFF:
        waiting = Delivery.objects.order_by("contact")[0]
        assert waiting.not_before == Chunk.objects.get().not_before == at + wait
        too_early = Script()
        work(too_early, at=at + wait - timedelta(seconds=1))
        assert too_early.offered == []
        at += wait
        work(Script([later]), at=at)
    given_up = Delivery.objects.order_by("contact")[0]
    assert (given_up.state, given_up.attempts) == (Delivery.State.FAILED, len(chunks.BACKOFF) + 1)
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
    link(chunk, settled=None, intend=first.pk, seconds=60, now=now)
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


def test_a_stalled_worker_that_wakes_after_its_lease_records_and_offers_nothing(
    message: Message, work: Callable[..., None], now: datetime
) -> None:
    stalled = services.open_chunk(owner="stalled", now=now)
    assert stalled is not None
    first, second = Delivery.objects.order_by("contact")[:2]
    link(stalled, settled=None, intend=first.pk, seconds=60, now=now)
    lapse()
    other = services.open_chunk(owner="other", now=now)
    assert other is not None
    late = link(stalled, settled=Settled(first.pk, "accepted"), intend=second.pk, seconds=60, now=now)
    assert (late.ours, late.goes_on, late.offered_at) == (False, False, None)
    services.close_chunk(stalled, settled=Settled(first.pk, "accepted"), now=now)
    assert states() == ["unknown", "planned", "planned", "planned", "planned"]
    assert Chunk.objects.get().lease_until is not None


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
    assert states()[0] == "unknown"


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
    assert link(chunk, settled=None, intend=first.pk, seconds=60, now=now).offered_at == now
    assert link(chunk, settled=None, intend=first.pk, seconds=60, now=now).offered_at is None


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
