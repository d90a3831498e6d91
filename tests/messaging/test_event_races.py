"""Real threads on a real database: everybody posts and sweeps at once, and each event counts once."""

import json
import threading
from collections.abc import Callable
from datetime import datetime

import pytest
from django.conf import LazySettings
from django.db import connections, transaction
from django.test import Client

from accounts.models import Suppression, User
from groups.models import Contact
from messaging import services
from messaging.models import Chunk, Delivery, Message, ProviderEvent
from tests.messaging import posts
from tests.messaging.posts import Post
from tests.messaging.test_events import bounces, told
from tests.messaging.test_races import all_at_once

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def message(
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
) -> Message:
    start(confirm(draft))
    work()
    return draft


@pytest.fixture
def sent(message: Message) -> list[Delivery]:
    return list(message.deliveries.order_by("pk"))


def test_one_batch_posted_by_eight_at_once_is_kept_and_applied_once(
    sent: list[Delivery], message: Message, now: datetime, settings: LazySettings
) -> None:
    settings.ANYMAIL = dict(posts.SECRETS)
    kinds = ["delivered", "bounced", "complained", "accepted", "opened"]
    events = [posts.of_brevo(kind, one, now) for one, kind in zip(sent, kinds, strict=True)]
    # Each in an order of its own, so that who waits for whom differs.
    batches = [
        Post("brevo", json.dumps(events[at:] + events[:at]).encode(), posts.AS_BREVO) for at in range(8)
    ]
    answers = all_at_once([lambda batch=batch: batch.to(Client()) for batch in batches])
    assert [answer.status_code for answer in answers] == [200] * 8
    assert ProviderEvent.objects.count() == len(events)

    done = all_at_once([lambda: services.apply_events(now=now)] * 8)
    assert sum(done) == len(events)
    assert list(Delivery.objects.order_by("pk").values_list("state", flat=True)) == [
        "delivered",
        "bounced",
        "complained",
        "accepted",
        "accepted",
    ]
    message.refresh_from_db()
    assert (message.bounced, message.complained) == (1, 1)
    assert Suppression.objects.count() == 2
    assert Chunk.objects.get().tally == Delivery.objects.all().tally()


def test_who_posts_the_same_in_another_order_waits_for_nobody_for_ever(
    sent: list[Delivery], now: datetime
) -> None:
    for round_ in range(5):
        events = [told(sent[0], "other", number=1000 * round_ + number) for number in range(1000)]
        results = all_at_once(
            [
                lambda order=order: services.take_events("brevo", order, now=now)
                for order in (events, events[::-1])
            ]
            * 2
        )
        assert results == [None] * 4
    assert ProviderEvent.objects.count() == 5000


def test_eight_sweeps_at_once_silence_no_more_than_may_be(
    sent: list[Delivery], now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("messaging.services.events.SILENCED_ANYWAY", 2)
    monkeypatch.setattr("messaging.services.events.BATCH", 1)
    services.take_events("postmark", bounces(sent), now=now)
    all_at_once([lambda: services.apply_events(now=now)] * 8)
    assert Suppression.objects.count() == 2
    assert ProviderEvent.objects.filter(state="held").count() == 3
    assert ProviderEvent.objects.exclude(suppressed_at=None).count() == 2


def test_operators_who_release_and_discard_at_once_do_one_of_it_to_each(
    sent: list[Delivery], message: Message, owner: User, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("messaging.services.events.SILENCED_ANYWAY", 0)
    services.take_events("postmark", bounces(sent), now=now)
    services.apply_events(now=now)
    ids = list(ProviderEvent.objects.values_list("pk", flat=True))
    release = lambda: services.release_events(ids, by=owner, now=now)  # noqa: E731
    discard = lambda: services.discard_events(ids, by=owner, now=now)  # noqa: E731
    done = all_at_once([release, discard] * 4)
    assert sum(done) == 5
    bounced = Delivery.objects.filter(state="bounced").count()
    assert ProviderEvent.objects.filter(state="applied").count() == bounced
    message.refresh_from_db()
    assert message.bounced == Suppression.objects.count() == bounced


def test_who_releases_waits_for_who_is_just_discarding(
    sent: list[Delivery], owner: User, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("messaging.services.events.SILENCED_ANYWAY", 0)
    services.take_events("postmark", bounces(sent), now=now)
    services.apply_events(now=now)
    ids = list(ProviderEvent.objects.values_list("pk", flat=True))
    released: list[int] = []

    def release() -> None:
        released.append(services.release_events(ids, by=owner, now=now))
        connections.close_all()

    other = threading.Thread(target=release)
    with transaction.atomic():
        services.discard_events(ids, by=owner, now=now)
        other.start()
        other.join(1)
        assert other.is_alive()
    other.join(30)
    assert released == [0]
    assert set(Delivery.objects.values_list("state", flat=True)) == {"accepted"}


def test_what_a_worker_is_just_writing_is_waited_for_by_nobody_and_lost_by_nobody(
    sent: list[Delivery], now: datetime
) -> None:
    services.take_events("postmark", [told(one, "delivered") for one in sent], now=now)
    writing, written = threading.Event(), threading.Event()

    def write() -> None:
        with transaction.atomic():
            Delivery.objects.filter(pk=sent[0].pk).update(attempts=2)
            writing.set()
            written.wait(30)
        connections.close_all()

    worker = threading.Thread(target=write)
    worker.start()
    writing.wait(30)
    assert services.apply_events(now=now) == 4
    written.set()
    worker.join()
    assert services.apply_events(now=now) == 1
    assert set(Delivery.objects.values_list("state", flat=True)) == {"delivered"}


def test_sweeps_and_workers_stand_in_nobodys_way(
    sent: list[Delivery], message: Message, now: datetime
) -> None:
    def sweep() -> None:
        for number in range(10):
            events = [told(one, "delivered", number=number) for one in sent]
            services.take_events("postmark", events, now=now)
            services.apply_events(now=now)

    def take_over() -> None:
        for _round in range(20):
            Message.objects.filter(pk=message.pk).update(state="running", done_at=None)
            Chunk.objects.update(state="open", lease_until=None)
            Delivery.objects.filter(state="accepted").update(state="sending")
            if chunk := services.open_chunk(owner="x", now=now):
                services.close_chunk(chunk, settled=[], now=now)

    assert all_at_once([sweep, take_over] * 3) == [None] * 6
    services.apply_events(now=now)
    assert set(Delivery.objects.values_list("state", flat=True)) == {"delivered"}
