"""What becomes of a delivery when its provider says something: in any order, however often, however late."""

import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import product
from typing import Any

import pytest
import time_machine
from django.conf import LazySettings
from django.test import Client
from django.urls import reverse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import AuditEvent, Letter, Suppression, User
from accounts.services import suppress
from accounts.tasks import sweep as send_letters
from groups.models import Contact, Creator
from messaging import gate, services, tasks
from messaging.models import Chunk, Delivery, Message, ProviderEvent
from messaging.providers.hooks import Told
from messaging.services import deliveries_in
from tests.messaging import posts

pytestmark = pytest.mark.django_db


@pytest.fixture
def message(
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
) -> Message:
    """One to five people; the mail system took all of it."""
    start(confirm(draft))
    work()
    draft.refresh_from_db()
    return draft


@pytest.fixture
def sent(message: Message) -> list[Delivery]:
    return list(message.deliveries.order_by("pk"))


@pytest.fixture
def admin_user(db: None) -> User:
    user = User.objects.create_superuser("root@example.org")
    user.emailaddress_set.create(email=user.email, verified=True, primary=True)
    return user


def told(delivery: Delivery, kind: str, /, *, number: int = 1, **changed: Any) -> Told:
    values: dict[str, Any] = {
        "event_id": f"{kind}-{delivery.pk}-{number}",
        "kind": ProviderEvent.Kind(kind),
        "at": None,
        "address": delivery.address_key,
        "delivery": delivery.pk,
        "request": "",
        "said": f"said of {kind}",
        "raw": "{}",
    }
    return Told(**{**values, **changed})


def hear(*events: Told, now: datetime) -> int:
    services.take_events("postmark", events, now=now)
    return services.apply_events(now=now)


def states() -> list[str]:
    return list(Delivery.objects.order_by("pk").values_list("state", flat=True))


def numbers(message: Message) -> tuple[int, int]:
    message.refresh_from_db()
    return message.bounced, message.complained


AFTER = {
    "accepted": "accepted",
    "delivered": "delivered",
    "refused": "failed",
    "bounced": "bounced",
    "complained": "complained",
}


@pytest.mark.parametrize("before", ["accepted", "unknown", "sending"])
def test_an_event_says_what_became_of_a_mail_and_settles_one_in_doubt(
    sent: list[Delivery], message: Message, now: datetime, before: str
) -> None:
    Delivery.objects.update(state=before, reason="worker_lost", smtp_code=250)
    events = [told(delivery, kind) for delivery, kind in zip(sent, AFTER, strict=True)]
    assert hear(*events, now=now) == 5
    assert states() == list(AFTER.values())
    unmoved = "worker_lost" if before == "accepted" else ""
    assert list(Delivery.objects.order_by("pk").values_list("reason", flat=True)) == [
        unmoved,
        "",
        "said of refused",
        "said of bounced",
        "said of complained",
    ]
    # The code was of who took it from us.
    codes = Delivery.objects.order_by("pk").values_list("smtp_code", flat=True)
    assert list(codes) == [250, 250, None, None, None]
    assert numbers(message) == (1, 1)
    assert set(ProviderEvent.objects.values_list("state", flat=True)) == {"applied"}


def test_what_was_said_is_never_taken_back(sent: list[Delivery], message: Message, now: datetime) -> None:
    for first, second in product(AFTER, AFTER):
        ProviderEvent.objects.all().delete()
        Delivery.objects.update(state="accepted")
        hear(told(sent[0], first), now=now)
        hear(told(sent[0], second, number=2), now=now)
        furthest = max(first, second, key=list(AFTER).index)
        assert states()[0] == AFTER[furthest], f"{first}, then {second}"


@pytest.mark.parametrize("state", ["planned", "suppressed", "skipped", "cancelled", "held"])
def test_a_mail_that_was_not_sent_is_not_delivered_by_being_called_so(
    sent: list[Delivery], now: datetime, state: str
) -> None:
    Delivery.objects.update(state=state)
    hear(*(told(sent[0], kind) for kind in AFTER), now=now)
    assert states() == [state] * 5


def test_the_same_events_again_change_nothing(sent: list[Delivery], message: Message, now: datetime) -> None:
    events = [told(delivery, "complained") for delivery in sent[:2]]
    assert hear(*events, now=now) == 2
    assert hear(*events, now=now) == 0
    assert hear(*(told(delivery, "complained", number=2) for delivery in sent[:2]), now=now) == 2
    assert numbers(message) == (0, 2)
    assert Suppression.objects.count() == 2
    assert ProviderEvent.objects.exclude(suppressed_at=None).count() == 2


KIND = st.sampled_from(sorted({*AFTER, "other"}))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    said=st.lists(st.tuples(st.integers(0, 4), KIND), max_size=12),
    again=st.lists(st.integers(0, 11), max_size=6),
    seed=st.integers(0, 2**32),
    size=st.integers(1, 6),
)
def test_in_whatever_order_and_however_often_they_come_the_end_is_the_same(
    sent: list[Delivery],
    message: Message,
    now: datetime,
    said: list[tuple[int, str]],
    again: list[int],
    seed: int,
    size: int,
) -> None:
    Delivery.objects.update(state="accepted", reason="")
    Message.objects.update(bounced=0, complained=0, tripped_at=None)
    Chunk.objects.update(tally={"accepted": 5})
    ProviderEvent.objects.all().delete()
    Suppression.objects.all().delete()
    events = [told(sent[who], kind, number=number) for number, (who, kind) in enumerate(said)]
    events += [events[at] for at in again if at < len(events)]
    random.Random(seed).shuffle(events)
    for at in range(0, len(events), size):
        hear(*events[at : at + size], now=now)
    furthest = [
        max(["accepted", *(kind for of, kind in said if of == who and kind in AFTER)], key=list(AFTER).index)
        for who in range(5)
    ]
    assert states() == [AFTER[kind] for kind in furthest]
    assert numbers(message) == (furthest.count("bounced"), furthest.count("complained"))
    silenced = {sent[who].address_key for who, kind in said if kind in ("bounced", "complained")}
    assert set(Suppression.objects.values_list("address_key", flat=True)) == silenced
    # Whose mail it was: nobody else is told of it.
    assert {found.creator_id for found in Suppression.objects.all()} <= {message.release.creator_id}
    assert Chunk.objects.get().tally == Delivery.objects.all().tally()


def test_only_bounces_for_good_and_complaints_silence_an_address(sent: list[Delivery], now: datetime) -> None:
    hear(*(told(delivery, kind) for delivery, kind in zip(sent, AFTER, strict=True)), now=now)
    assert list(Suppression.objects.order_by("pk").values_list("address_key", "reason", "created_at")) == [
        (sent[3].address_key, "bounce", now),
        (sent[4].address_key, "complaint", now),
    ]


NOT_OURS: list[dict[str, Any]] = [
    {"address": "somebody@else.example"},
    {"address": ""},
    {"delivery": None},
    {"delivery": 2**63 - 1},
    {"delivery": 0},
]


@pytest.mark.parametrize("changed", NOT_OURS)
def test_an_event_about_no_mail_of_ours_does_nothing(
    sent: list[Delivery], message: Message, now: datetime, changed: dict[str, Any]
) -> None:
    suppress("known@example.net", Suppression.Reason.ADMIN, now=now)
    assert hear(told(sent[0], "bounced", **changed), told(sent[1], "complained", **changed), now=now) == 2
    assert states() == ["accepted"] * 5
    assert numbers(message) == (0, 0)
    assert Suppression.objects.count() == 1
    assert set(ProviderEvent.objects.values_list("state", flat=True)) == {"discarded"}


def test_an_address_that_was_never_written_to_is_not_silenced(
    sent: list[Delivery], message: Message, now: datetime
) -> None:
    Delivery.objects.update(state="planned", offered_at=None, attempts=0)
    hear(told(sent[0], "complained"), told(sent[1], "bounced"), now=now)
    assert not Suppression.objects.exists()
    assert states() == ["planned"] * 5


def test_the_undelivered_are_found_by_name_at_once(
    sent: list[Delivery], message: Message, now: datetime
) -> None:
    hear(told(sent[1], "bounced"), told(sent[2], "delivered"), now=now)
    found = deliveries_in(message, Delivery.State.BOUNCED)
    assert [(one.address_key, one.said) for one in found] == [(sent[1].address_key, "said of bounced")]
    assert Chunk.objects.get().tally == {"accepted": 3, "bounced": 1, "delivered": 1}


def test_a_message_that_bounces_stops_its_creator(
    sent: list[Delivery], creator: Creator, admin_user: User, now: datetime
) -> None:
    hear(*(told(delivery, "bounced") for delivery in sent[:4]), now=now)
    creator.refresh_from_db()
    assert creator.paused_at is None
    hear(told(sent[4], "bounced"), now=now)
    creator.refresh_from_db()
    assert creator.paused_at == now


def test_a_mail_that_the_provider_threw_away_is_no_bounce(
    sent: list[Delivery], message: Message, creator: Creator, now: datetime
) -> None:
    hear(*(told(delivery, "refused") for delivery in sent), now=now)
    creator.refresh_from_db()
    assert (creator.paused_at, numbers(message)) == (None, (0, 0))


def test_a_count_that_somebody_else_lost_stays_a_number(
    sent: list[Delivery], message: Message, now: datetime
) -> None:
    Delivery.objects.update(state="bounced")
    hear(told(sent[0], "complained"), now=now)
    assert numbers(message) == (0, 1)


def test_a_worker_killed_after_the_deliveries_and_before_the_counting_loses_and_doubles_nothing(
    sent: list[Delivery], message: Message, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as shot:
        shot.setattr("messaging.services.events.recount", killed)
        with pytest.raises(KeyboardInterrupt):
            hear(told(sent[0], "bounced"), now=now)
    assert Chunk.objects.get().tally == {"accepted": 5}
    assert services.apply_events(now=now) == 1
    assert Chunk.objects.get().tally == {"accepted": 4, "bounced": 1}
    assert numbers(message) == (1, 0)
    assert Suppression.objects.count() == 1


def test_a_sweep_applies_what_waits_in_batches_and_leaves_the_rest_to_the_next(
    sent: list[Delivery], now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("messaging.services.events.BATCH", 2)
    monkeypatch.setattr("messaging.services.events.BATCHES", 2)
    services.take_events("postmark", [told(delivery, "delivered") for delivery in sent], now=now)
    with time_machine.travel(now, tick=False):
        tasks.sweep()
        assert sorted(states()) == ["accepted", *["delivered"] * 4]
        tasks.sweep()
    assert states() == ["delivered"] * 5
    assert services.apply_events(now=now) == 0


# --- a flood


@pytest.fixture
def two_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("messaging.services.events.SILENCED_ANYWAY", 2)


def bounces(sent: Sequence[Delivery], *, number: int = 1) -> list[Told]:
    return [told(delivery, "bounced", number=number) for delivery in sent]


@pytest.mark.usefixtures("two_an_hour")
def test_a_flood_silences_so_many_and_the_rest_waits_for_an_operator(
    sent: list[Delivery], message: Message, creator: Creator, admin_user: User, now: datetime
) -> None:
    assert hear(*bounces(sent), told(sent[4], "delivered"), now=now) == 6
    assert Suppression.objects.count() == 2
    assert sorted(states()) == ["accepted", "accepted", "bounced", "bounced", "delivered"]
    assert numbers(message) == (2, 0)
    held = ProviderEvent.objects.filter(state="held")
    assert held.count() == 3
    letter = Letter.objects.get(kind="alarm")
    assert (letter.address_key, letter.subject) == (
        admin_user.email,
        "Events from the mail provider are held back",
    )
    creator.refresh_from_db()
    assert creator.paused_at is None
    # What goes on in the same hour is held too, without another letter.
    assert hear(*bounces(sent, number=2), now=now + timedelta(minutes=30)) == 5
    assert Suppression.objects.count() == 2
    assert held.count() == 6
    assert Letter.objects.filter(kind="alarm").count() == 1


@pytest.mark.usefixtures("two_an_hour")
def test_an_hour_later_others_may_be_silenced_again(sent: list[Delivery], now: datetime) -> None:
    hear(*bounces(sent[:2]), now=now)
    hear(*bounces(sent[2:3]), now=now + timedelta(minutes=59))
    assert Suppression.objects.count() == 2
    hear(*bounces(sent[3:]), now=now + timedelta(minutes=60))
    assert Suppression.objects.count() == 4
    assert ProviderEvent.objects.get(state="held").address_key == sent[2].address_key


@pytest.mark.usefixtures("two_an_hour")
def test_whoever_is_silent_already_takes_nobodys_place(sent: list[Delivery], now: datetime) -> None:
    hear(*bounces(sent[:2]), now=now)
    hear(*bounces(sent[:2], number=2), told(sent[0], "complained"), told(sent[3], "delivered"), now=now)
    suppress(sent[2].address_key, Suppression.Reason.ADMIN, now=now)
    hear(*bounces(sent[2:3]), now=now)
    assert not ProviderEvent.objects.filter(state="held").exists()
    assert states() == ["complained", "bounced", "bounced", "delivered", "accepted"]


@pytest.mark.usefixtures("two_an_hour")
def test_two_events_of_one_address_are_let_through_together(sent: list[Delivery], now: datetime) -> None:
    services.take_events("postmark", bounces(sent[:1]), now=now)
    services.take_events("postmark", [told(sent[0], "complained")], now=now)
    services.take_events("postmark", bounces(sent[1:]), now=now)
    services.apply_events(now=now)
    assert states()[0] == "complained"
    assert Suppression.objects.count() == 2


@pytest.mark.usefixtures("two_an_hour")
def test_who_sends_more_may_have_more_bounces(
    sent: list[Delivery], now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("messaging.services.events.SILENCED_PART", 0.6)
    hear(*bounces(sent), now=now)
    assert Suppression.objects.count() == 3


@pytest.mark.usefixtures("two_an_hour")
def test_mails_of_longer_ago_than_a_day_count_no_more(
    sent: list[Delivery], now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("messaging.services.events.SILENCED_PART", 0.6)
    Message.objects.update(started_at=now - timedelta(days=1), moved_at=None)
    hear(*bounces(sent), now=now)
    assert Suppression.objects.count() == 2


@pytest.mark.usefixtures("two_an_hour")
def test_released_events_are_applied_whatever_they_silence(
    sent: list[Delivery], message: Message, owner: User, now: datetime
) -> None:
    hear(*bounces(sent), now=now)
    everything = list(ProviderEvent.objects.values_list("pk", flat=True))
    assert services.release_events(everything, by=owner, now=now) == 3
    assert states() == ["bounced"] * 5
    assert Suppression.objects.count() == 5
    assert numbers(message) == (5, 0)
    assert services.release_events(everything, by=owner, now=now) == 0
    assert services.discard_events(everything, by=owner, now=now) == 0
    assert list(
        AuditEvent.objects.filter(verb__contains="events").values_list("actor", "verb", "subject")
    ) == [(owner.pk, "released events", "3")]


@pytest.mark.usefixtures("two_an_hour")
def test_discarded_events_never_have_an_effect(
    sent: list[Delivery], message: Message, owner: User, now: datetime
) -> None:
    hear(*bounces(sent), now=now)
    everything = list(ProviderEvent.objects.values_list("pk", flat=True))
    assert services.discard_events(everything, by=owner, now=now) == 3
    assert services.release_events(everything, by=owner, now=now) == 0
    assert services.apply_events(now=now) == 0
    assert hear(*bounces(sent), now=now + timedelta(hours=2)) == 0
    assert numbers(message) == (2, 0)
    assert AuditEvent.objects.get(verb="discarded events").subject == "3"


@pytest.mark.usefixtures("two_an_hour")
def test_released_events_cannot_be_discarded_while_they_are_counted(
    sent: list[Delivery], message: Message, owner: User, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    hear(*bounces(sent), now=now)
    everything = list(ProviderEvent.objects.values_list("pk", flat=True))

    def meanwhile(*_args: object) -> None:
        assert services.discard_events(everything, by=owner, now=now) == 0

    monkeypatch.setattr("messaging.services.events.recount", meanwhile)
    assert services.release_events(everything, by=owner, now=now) == 3
    assert set(ProviderEvent.objects.values_list("state", flat=True)) == {"applied"}


@pytest.mark.usefixtures("two_an_hour")
def test_an_operator_looks_at_events_and_releases_or_discards_those_that_are_held(
    client: Client, sent: list[Delivery], admin_user: User, now: datetime
) -> None:
    hear(*bounces(sent), now=now)
    client.force_login(admin_user)
    page = reverse("admin:messaging_providerevent_changelist")
    held = list(ProviderEvent.objects.filter(state="held").order_by("pk").values_list("pk", flat=True))
    assert client.get(page, {"state__exact": "held"}).status_code == 200
    assert client.get(page, {"q": sent[0].address_key}).status_code == 200
    row = reverse("admin:messaging_providerevent_change", args=[held[0]])
    assert client.get(row).status_code == 200
    assert client.post(row, {"state": "applied"}).status_code == 403
    answer = client.post(page, {"action": "release", "_selected_action": held[:1]}, follow=True)
    assert "1 event was applied." in answer.content.decode()
    answer = client.post(page, {"action": "discard", "_selected_action": held}, follow=True)
    assert "2 events were discarded." in answer.content.decode()
    assert sorted(ProviderEvent.objects.values_list("state", flat=True)) == [
        *["applied"] * 3,
        *["discarded"] * 2,
    ]
    assert set(AuditEvent.objects.filter(verb__contains="events").values_list("actor", flat=True)) == {
        admin_user.pk
    }


# --- keeping


def test_events_are_kept_for_thirteen_months(
    sent: list[Delivery], now: datetime, settings: LazySettings
) -> None:
    hear(told(sent[0], "delivered"), now=now)
    hear(told(sent[1], "delivered"), now=now + timedelta(days=1))
    assert services.forget_events(now=now + timedelta(days=396)) == 0
    assert services.forget_events(now=now + timedelta(days=396, seconds=1)) == 1
    assert services.forget_events(now=now + timedelta(days=396, seconds=1)) == 0
    settings.EVENTS_KEEP_DAYS = 30
    assert services.forget_events(now=now + timedelta(days=396)) == 1
    assert services.forget_events(now=now + timedelta(days=396)) == 0


def test_a_time_that_cannot_be_is_the_time_it_was_heard(sent: list[Delivery], now: datetime) -> None:
    said = [
        now - timedelta(days=1),
        now + timedelta(seconds=1),
        now - timedelta(days=400),
        now.replace(tzinfo=None) - timedelta(days=1),
        datetime.min.replace(tzinfo=now.tzinfo),
        datetime.max.replace(tzinfo=now.tzinfo),
        None,
    ]
    events = [told(sent[0], "delivered", number=number, at=at) for number, at in enumerate(said)]
    services.take_events("postmark", events, now=now)
    heard = ProviderEvent.objects.order_by("pk").values_list("at", flat=True)
    assert list(heard) == [now - timedelta(days=1), *[now] * 6]


# --- letters stand apart


def test_whoever_complained_about_a_release_still_gets_a_code_to_sign_in(
    client: Client,
    draft: Message,
    contact: Contact,
    member: User,
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
    now: datetime,
    settings: LazySettings,
    mailoutbox: list[Any],
) -> None:
    settings.ANYMAIL = dict(posts.SECRETS)
    start(confirm(draft))
    work()
    delivery = Delivery.objects.select_related("message").get(contact=contact)
    assert posts.postmark("complained", delivery, now).to(client).status_code == 200
    assert services.apply_events(now=now) == 1
    assert Suppression.objects.live().get().address_key == member.email
    # Nothing that stops releases stops a letter.
    Creator.objects.update(paused_at=now)
    gate.lock("restored", now=now)
    mailoutbox.clear()
    client.post(reverse("account_request_login_code"), {"email": member.email})
    send_letters()
    assert [mail.to for mail in mailoutbox] == [[member.email]]
    code = next(word for word in mailoutbox[0].body.split() if word.isdigit() and len(word) == 6)
    answer = client.post(reverse("account_confirm_login_code"), {"code": code})
    assert answer.status_code == 302
    assert client.get("/library/").status_code == 200
