"""Mail in doubt is settled from evidence, and stays in doubt without it."""

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from email.utils import parseaddr
from pathlib import Path

import pytest
import time_machine
from django.conf import LazySettings, settings
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import F

from accounts.models import Suppression, User
from distribution.services import recall_release
from groups.models import Contact, Membership
from groups.services import change_address
from messaging import gate, services, tasks
from messaging.mail import message_id_of
from messaging.models import Chunk, Delivery, Message, Preference, RecentMail
from messaging.services.settle import GRACE
from tests.http_provider import HttpProvider
from tests.recorder import Recorder

pytestmark = pytest.mark.django_db

RESEND, BREVO = "anymail.backends.resend.EmailBackend", "anymail.backends.brevo.EmailBackend"
POSTMARK, MAILGUN = "anymail.backends.postmark.EmailBackend", "anymail.backends.mailgun.EmailBackend"
MINUTE = timedelta(minutes=1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpProvider]:
    with HttpProvider(tmp_path_factory.mktemp("outside")) as server:
        yield server


@pytest.fixture
def outside(server: HttpProvider, settings: LazySettings) -> HttpProvider:
    server.begin()
    settings.ANYMAIL = {
        "RESEND_API_KEY": "re_test",
        "POSTMARK_SERVER_TOKEN": "token",
        "POSTMARK_MESSAGE_STREAM": "broadcast",
        "MAILGUN_API_KEY": "key",
        "BREVO_API_KEY": "key",
        **{f"{name}_API_URL": server.url for name in ("RESEND", "POSTMARK", "MAILGUN", "BREVO")},
    }
    settings.EMAIL_BACKEND = RESEND
    settings.EMAIL_TIMEOUT = 0.7
    cache.clear()
    return server


@pytest.fixture
def doubtful(
    outside: HttpProvider,
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
    settings: LazySettings,
) -> Callable[..., Message]:
    """Five mails that were offered, of which nobody knows whether they were taken."""

    def doubted(what: str, way: str = RESEND) -> Message:
        settings.EMAIL_BACKEND = way
        message = start(confirm(draft))
        outside.strike(*(f"p{n}@*={what}" for n in range(5)))
        work()
        outside.strike()
        message.refresh_from_db()
        assert states() == {"unknown": 5}
        return message

    return doubted


def states() -> dict[str, int]:
    return Delivery.objects.all().tally()


def told() -> dict[str, int]:
    """What the chunks count, which is what people are shown."""
    counted: dict[str, int] = {}
    for tally in Chunk.objects.values_list("tally", flat=True):
        counted = {state: counted.get(state, 0) + number for state, number in tally.items()}
    return counted


# --- by repeating the call -------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [RESEND, BREVO])
@pytest.mark.parametrize("what", ["taken-500", "500", "taken-reset", "silence"])
def test_a_call_in_doubt_is_repeated_and_its_mails_are_accepted_once(
    way: str, what: str, doubtful: Callable[..., Message], outside: HttpProvider, now: datetime
) -> None:
    doubtful(what, way)
    assert services.settle_by_replay(now + MINUTE) == 5
    assert states() == told() == {"accepted": 5}
    assert sorted(outside.taken()) == [f"p{n}@example.net" for n in range(5)]
    taken = {mail["to"]: mail["id"] for mail in outside.mails()}
    named = dict(Delivery.objects.values_list("address_key", "provider_id"))
    # Brevo only says that it has the mail, not what it calls it.
    assert named == taken or (way == BREVO and what.startswith("taken") and set(named.values()) == {""})
    assert services.settle_by_replay(now + MINUTE) == 0
    assert len(outside.mails()) == 5


def test_what_a_lost_worker_was_handing_over_is_settled_too(
    doubtful: Callable[..., Message], outside: HttpProvider, now: datetime
) -> None:
    doubtful("taken-silence")
    Delivery.objects.update(reason=Delivery.Reason.WORKER_LOST)
    assert services.settle_by_replay(now + MINUTE) == 5
    assert set(Delivery.objects.values_list("reason", flat=True)) == {""}
    assert len(outside.mails()) == 5


@pytest.mark.parametrize(("way", "life"), [(RESEND, timedelta(hours=24)), (BREVO, timedelta(minutes=15))])
def test_a_key_that_may_be_forgotten_is_not_used_any_more(
    way: str, life: timedelta, doubtful: Callable[..., Message], outside: HttpProvider, now: datetime
) -> None:
    doubtful("500", way)
    Message.objects.update(moved_at=now + life)
    assert services.settle_by_replay(now + 0.81 * life) == 0
    assert states() == {"unknown": 5}
    assert outside.mails() == []
    assert services.settle_by_replay(now + 0.79 * life) == 5


def test_a_name_that_changed_since_sends_nobody_a_second_mail(
    doubtful: Callable[..., Message], people: list[Contact], outside: HttpProvider, now: datetime
) -> None:
    doubtful("taken-500")
    Contact.objects.filter(pk=people[0].pk).update(name="Somebody Else")
    assert services.settle_by_replay(now + MINUTE) == 5
    assert states() == {"accepted": 5}
    assert len(outside.mails()) == 5


def test_one_that_is_refused_when_the_call_is_repeated_has_failed(
    doubtful: Callable[..., Message], outside: HttpProvider, now: datetime
) -> None:
    doubtful("500")
    outside.strike("p3@*=refuse:no such domain")
    assert services.settle_by_replay(now + MINUTE) == 5
    assert states() == told() == {"accepted": 4, "failed": 1}
    assert Delivery.objects.get(address_key="p3@example.net").reason == "no such domain"


def test_a_call_of_which_the_provider_told_a_part_already_is_repeated_whole(
    doubtful: Callable[..., Message], outside: HttpProvider, now: datetime
) -> None:
    doubtful("taken-500")
    Delivery.objects.filter(address_key="p0@example.net").update(state="delivered")
    assert services.settle_by_replay(now + MINUTE) == 4
    assert states() == {"delivered": 1, "accepted": 4}
    assert len({mail["key"] for mail in outside.mails()}) == 1


def test_a_call_of_which_a_person_decided_a_part_is_left_alone(
    doubtful: Callable[..., Message], outside: HttpProvider, owner: User, now: datetime
) -> None:
    message = doubtful("500")
    one = Delivery.objects.filter(address_key="p2@example.net")
    assert services.resend(one, message=message, by=owner, now=now + MINUTE) == 1
    assert services.settle_by_replay(now + 2 * MINUTE) == 0
    assert states() == {"unknown": 4, "planned": 1}
    assert outside.mails() == []


def test_the_rest_of_such_a_call_is_repeated_under_the_calls_own_key(
    doubtful: Callable[..., Message],
    outside: HttpProvider,
    owner: User,
    work: Callable[..., None],
    now: datetime,
) -> None:
    """Once the others were sent again alone, nothing shows any more that there were more of them."""
    message = doubtful("taken-500")
    some = Delivery.objects.filter(address_key__in=["p0@example.net", "p2@example.net"])
    services.resend(some, message=message, by=owner, now=now + MINUTE)
    work(at=now + 2 * MINUTE)
    assert states() == {"unknown": 3, "accepted": 2}
    assert services.settle_by_replay(now + 3 * MINUTE) == 3
    assert states() == {"accepted": 5}
    # Two were sent twice, by a person who was told so; the rest once.
    assert sorted(outside.taken()) == sorted(
        [f"p{n}@example.net" for n in range(5)] + ["p0@example.net", "p2@example.net"]
    )


def test_one_that_was_refused_in_writing_was_never_in_the_call(
    doubtful: Callable[..., Message], outside: HttpProvider, now: datetime
) -> None:
    doubtful("500")
    Delivery.objects.filter(address_key="p1@example.net").update(state="failed")
    assert services.settle_by_replay(now + MINUTE) == 4
    assert "p1@example.net" not in outside.taken()


def _cancelled(message: Message, owner: User, now: datetime) -> None:
    Message.objects.filter(pk=message.pk).update(state=Message.State.CANCELLED, done_at=now)


def _paused(message: Message, owner: User, now: datetime) -> None:
    Message.objects.filter(pk=message.pk).update(state=Message.State.PAUSED, done_at=None)


def _creator_paused(message: Message, owner: User, now: datetime) -> None:
    message.release.creator.paused_at = now
    message.release.creator.save(update_fields=["paused_at"])


def _recalled(message: Message, owner: User, now: datetime) -> None:
    recall_release(message.release, because="a mistake", by=owner, now=now)


def _locked(message: Message, owner: User, now: datetime) -> None:
    gate.lock("looked at", now)


def _leased(message: Message, owner: User, now: datetime) -> None:
    Message.objects.filter(pk=message.pk).update(lease_until=datetime.fromisoformat("2099-01-01T00:00Z"))


def _of_another_provider(message: Message, owner: User, now: datetime) -> None:
    Delivery.objects.update(offered_by="smtp")


def _somebody_moved(message: Message, owner: User, now: datetime) -> None:
    Contact.objects.filter(address_key="p3@example.net").update(address_key="new@example.net")


def _somebody_left(message: Message, owner: User, now: datetime) -> None:
    Membership.objects.filter(contact__address_key="p3@example.net").update(ended_at=now)


def _somebody_unsubscribed(message: Message, owner: User, now: datetime) -> None:
    contact = Contact.objects.get(address_key="p3@example.net")
    services.set_preference(contact, Preference.Choice.NOTHING, now=now)


@pytest.mark.parametrize(
    "become",
    [
        _cancelled,
        _paused,
        _creator_paused,
        _recalled,
        _locked,
        _leased,
        _of_another_provider,
        _somebody_moved,
        _somebody_left,
        _somebody_unsubscribed,
    ],
)
def test_what_must_not_go_any_more_is_not_repeated(
    become: Callable[[Message, User, datetime], None],
    doubtful: Callable[..., Message],
    outside: HttpProvider,
    owner: User,
    now: datetime,
) -> None:
    become(doubtful("500"), owner, now)
    assert services.settle_by_replay(now + MINUTE) == 0
    assert states() == {"unknown": 5}
    assert outside.mails() == []


def test_a_message_paused_between_two_of_its_calls_stops_there(
    doubtful: Callable[..., Message], outside: HttpProvider, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubtful("500", BREVO)
    from messaging.services import settle  # noqa: PLC0415 – to stand between two calls

    record = settle._record

    def pause(*args: object) -> int:
        Message.objects.update(state=Message.State.PAUSED, done_at=None)
        return record(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(settle, "_record", pause)
    assert services.settle_by_replay(now + MINUTE) == 1
    assert len(outside.mails()) == 1


@pytest.mark.parametrize(("what", "calls"), [("500", 2), ("401", 1), ("422", 2)])
def test_a_provider_that_is_not_clear_either_is_left_to_another_time(
    what: str,
    calls: int,
    doubtful: Callable[..., Message],
    outside: HttpProvider,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    doubtful("500", BREVO)
    from messaging.providers.brevo import Brevo  # noqa: PLC0415 – to count

    asked: list[int] = []
    post = Brevo.post
    monkeypatch.setattr(Brevo, "post", lambda way, *args: asked.append(1) or post(way, *args))
    outside.strike(f"*={what}")
    assert services.settle_by_replay(now + MINUTE) == 0
    assert len(asked) == calls
    assert states() == {"unknown": 5}
    outside.strike()
    assert services.settle_by_replay(now + MINUTE) == 5


def test_words_that_cannot_be_mailed_any_more_hold_nobody_else_up(
    doubtful: Callable[..., Message], outside: HttpProvider, now: datetime
) -> None:
    message = doubtful("500")
    Message.objects.filter(pk=message.pk).update(body="x" * 100_000)
    assert services.settle_by_replay(now + MINUTE) == 0
    assert states() == {"unknown": 5}


@pytest.mark.parametrize("way", [POSTMARK, "django.core.mail.backends.locmem.EmailBackend"])
def test_without_a_key_nothing_is_repeated(
    way: str, doubtful: Callable[..., Message], outside: HttpProvider, settings: LazySettings, now: datetime
) -> None:
    doubtful("500")
    Delivery.objects.update(offered_by="postmark")
    settings.EMAIL_BACKEND = way
    assert services.settle_by_replay(now + MINUTE) == 0
    assert outside.mails() == []


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_two_sweeps_repeat_each_call_once(
    doubtful: Callable[..., Message], outside: HttpProvider, now: datetime
) -> None:
    doubtful("500")
    outside.strike("*=slow:0.3")
    settled: list[int] = []
    both = threading.Barrier(2)

    def sweep() -> None:
        both.wait()
        settled.append(services.settle_by_replay(now + MINUTE))
        connection.close()

    threads = [threading.Thread(target=sweep) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(settled) == [0, 5]
    assert len(outside.mails()) == 5


@pytest.mark.parametrize("way", [RESEND, POSTMARK])
def test_the_sweep_settles_what_it_can(
    way: str, doubtful: Callable[..., Message], outside: HttpProvider, now: datetime
) -> None:
    doubtful("taken-500", way)
    with time_machine.travel(now + MINUTE, tick=False):
        tasks.sweep()
    assert states() == {"accepted": 5}
    assert len(outside.mails()) == 5


# --- by asking ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [POSTMARK, MAILGUN])
def test_a_provider_that_knows_our_mark_settles_the_doubt(
    way: str, doubtful: Callable[..., Message], outside: HttpProvider, now: datetime
) -> None:
    doubtful("taken-500", way)
    assert services.settle_by_search(now + MINUTE) == 5
    assert states() == told() == {"accepted": 5}
    assert "" not in Delivery.objects.values_list("provider_id", flat=True)
    assert len(outside.mails()) == 5


@pytest.mark.parametrize("way", [POSTMARK, MAILGUN])
def test_one_that_does_not_know_it_proves_nothing(
    way: str, doubtful: Callable[..., Message], outside: HttpProvider, now: datetime
) -> None:
    doubtful("500", way)
    assert services.settle_by_search(now + MINUTE) == 0
    assert states() == {"unknown": 5}


def test_mailgun_may_say_that_it_did_not_take_it(
    doubtful: Callable[..., Message], outside: HttpProvider, now: datetime
) -> None:
    doubtful("taken-500", MAILGUN)
    outside.strike("*=refuse:rejected")
    assert services.settle_by_search(now + MINUTE) == 5
    assert states() == {"failed": 5}


def test_it_is_asked_once_a_minute_and_not_about_mail_of_another_way(
    doubtful: Callable[..., Message], now: datetime
) -> None:
    doubtful("taken-500", POSTMARK)
    Delivery.objects.filter(address_key="p0@example.net").update(offered_by="smtp")
    assert services.settle_by_search(now + MINUTE) == 4
    Delivery.objects.update(offered_by="postmark")
    assert services.settle_by_search(now + MINUTE) == 0
    cache.clear()
    assert services.settle_by_search(now + MINUTE) == 1


@pytest.mark.parametrize("wrong", ["RESEND_API_KEY", "POSTMARK_SERVER_TOKEN"])
def test_who_lets_nobody_in_is_not_asked(
    wrong: str, doubtful: Callable[..., Message], settings: LazySettings, now: datetime
) -> None:
    way = RESEND if wrong.startswith("RESEND") else POSTMARK
    doubtful("taken-500", way)
    settings.ANYMAIL = {}
    assert services.settle_by_search(now + MINUTE) == 0
    assert services.settle_by_replay(now + MINUTE) == 0
    assert states() == {"unknown": 5}


def test_who_is_out_of_reach_found_nothing(
    doubtful: Callable[..., Message], settings: LazySettings, now: datetime
) -> None:
    doubtful("taken-500", POSTMARK)
    settings.ANYMAIL = {**settings.ANYMAIL, "POSTMARK_API_URL": "http://127.0.0.1:9/"}
    assert services.settle_by_search(now + MINUTE) == 0
    assert states() == {"unknown": 5}


# --- by the relay's log -----------------------------------------------------------------------------------


@pytest.fixture
def relayed(
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
    settings: LazySettings,
    tmp_path: Path,
) -> Iterator[tuple[Message, Recorder]]:
    """Five mails over SMTP: one accepted, two in doubt of which one was taken, and two more that nobody took."""
    faults = ["p1@*!=taken:reset", "p2@*!=dot:reset", "p3@*!=dot:reset", "p4@*!=content:reset"]
    with Recorder(tmp_path, faults=faults) as recorder:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", recorder.port
        settings.EMAIL_TIMEOUT = 2
        settings.SMTP_CONNECTIONS = 1
        message = start(confirm(draft))
        for minutes in (0, 10):
            work(at=message.due_at + minutes * MINUTE)
        message.refresh_from_db()
        assert states() == {"accepted": 1, "unknown": 4}
        yield message, recorder


def log_of(recorder: Recorder) -> list[str]:
    return recorder.log.read_text().splitlines()


def sender() -> str:
    return parseaddr(settings.MAIL_FROM)[1]


def later(now: datetime) -> datetime:
    return now + 10 * MINUTE + GRACE + MINUTE


def test_what_the_log_shows_was_taken_and_nothing_else_changes(
    relayed: tuple[Message, Recorder], now: datetime
) -> None:
    _message, recorder = relayed
    for accepted in (1, 0):
        found = services.settle_by_log(log_of(recorder), now=later(now))
        assert (found.accepted, found.planned, found.left) == (accepted, 0, 3)
        assert states() == told() == {"accepted": 2, "unknown": 3}


def test_what_a_complete_log_does_not_show_is_sent_again_in_its_slot(
    relayed: tuple[Message, Recorder], work: Callable[..., None], now: datetime
) -> None:
    message, recorder = relayed
    dated = list(Delivery.objects.order_by("pk").values_list("offered_at", flat=True))
    slots = list(message.slots.values_list("at", "released_at"))
    found = services.settle_by_log(log_of(recorder), now=later(now), complete=True)
    assert (found.accepted, found.planned, found.cancelled, found.left) == (1, 3, 0, 0)
    assert states() == told() == {"accepted": 2, "planned": 3}
    message.refresh_from_db()
    assert message.state == Message.State.RUNNING
    assert message.done_at is None
    work(at=later(now) + MINUTE)
    message.refresh_from_db()
    assert states() == {"accepted": 5}
    assert message.state == Message.State.DONE
    assert sorted(mail["to"] for mail in recorder.mails()) == [f"p{n}@example.net" for n in range(5)]
    assert list(Delivery.objects.order_by("pk").values_list("offered_at", flat=True)) == dated
    # One mail in each person's cap.
    assert {len(times.split()) for times in RecentMail.objects.values_list("times", flat=True)} == {1}
    assert list(message.slots.values_list("at", "released_at")) == slots


def test_who_moved_or_left_meanwhile_is_sent_nothing_where_they_were(
    relayed: tuple[Message, Recorder], work: Callable[..., None], owner: User, now: datetime
) -> None:
    _message, recorder = relayed
    change_address(Contact.objects.get(address_key="p1@example.net"), "n1@example.net", by=owner, now=now)
    change_address(Contact.objects.get(address_key="p3@example.net"), "n3@example.net", by=owner, now=now)
    Membership.objects.filter(contact__address_key="p4@example.net").update(ended_at=now)
    assert services.settle_by_log(log_of(recorder), now=later(now), complete=True).planned == 3
    work(at=later(now) + MINUTE)
    assert sorted(mail["to"] for mail in recorder.mails()) == [
        "n3@example.net",
        *(f"p{n}@example.net" for n in (0, 1, 2)),
    ]
    # What was taken at the old address is not claimed for the new one.
    taken = Delivery.objects.select_related("contact").get(contact__address_key="n1@example.net")
    assert (taken.state, taken.written_to) == ("accepted", "p1@example.net")
    assert states() == {"accepted": 4, "cancelled": 1}


def test_a_mail_that_only_began_to_come_in_was_not_taken(
    relayed: tuple[Message, Recorder], now: datetime
) -> None:
    message, recorder = relayed
    began = [
        f"Nov 21 06:00:01 relay postfix/cleanup[12]: 4ABCD1234{n}: message-id={message_id_of(message, pk)}"
        for n, pk in enumerate(Delivery.objects.filter(state="unknown").values_list("pk", flat=True))
    ]
    found = services.settle_by_log([*log_of(recorder), *began], now=later(now), complete=True)
    assert (found.accepted, found.planned, found.left) == (1, 3, 0)


def test_a_mail_that_a_line_names_in_a_way_we_do_not_know_stays_in_doubt(
    relayed: tuple[Message, Recorder], now: datetime
) -> None:
    message, recorder = relayed
    pk = Delivery.objects.get(address_key="p3@example.net").pk
    lines = [*log_of(recorder), f"something about {message_id_of(message, pk)}"]
    found = services.settle_by_log(lines, now=later(now), complete=True)
    assert (found.accepted, found.planned, found.left) == (1, 2, 1)
    assert states() == {"accepted": 2, "planned": 2, "unknown": 1}


def test_of_what_came_back_only_an_address_that_is_not_there_is_silenced_and_counted(
    relayed: tuple[Message, Recorder], now: datetime
) -> None:
    message, recorder = relayed
    lines = []
    for name, address, dsn in (("4A", "p2@example.net", "5.1.1"), ("4B", "p3@example.net", "5.7.1")):
        pk = Delivery.objects.get(address_key=address).pk
        lines += [
            f"Nov 21 relay postfix/cleanup[1]: {name}CDE12345: message-id={message_id_of(message, pk)}",
            f"Nov 21 relay postfix/qmgr[1]: {name}CDE12345: from=<{sender()}>, size=9, nrcpt=1 (queue active)",
            f"Nov 21 relay postfix/smtp[1]: {name}CDE12345: to=<{address}>, dsn={dsn}, status=bounced (no)",
        ]
    for bounced in (2, 0):
        found = services.settle_by_log([*log_of(recorder), *lines], now=later(now))
        assert found.bounced == bounced
    assert states() == told() == {"accepted": 2, "bounced": 1, "failed": 1, "unknown": 1}
    silenced = Suppression.objects.live().get()
    assert silenced.address_key == "p2@example.net"
    assert silenced.creator_id == Message.objects.values_list("release__creator", flat=True).first()
    message.refresh_from_db()
    assert message.bounced == 1
    refused = Delivery.objects.get(address_key="p3@example.net")
    assert (refused.reason, refused.smtp_code) == ("5.7.1 (no)", None)


@pytest.mark.parametrize("complete", [False, True])
def test_a_forged_line_neither_settles_nor_silences_nor_sends_again(
    complete: bool, relayed: tuple[Message, Recorder], now: datetime
) -> None:
    message, recorder = relayed
    pk = Delivery.objects.get(address_key="p2@example.net").pk
    log = [
        *log_of(recorder),
        f"Nov 21 relay postfix/cleanup[1]: 4ABCDE12345: message-id={message_id_of(message, pk)}",
        "Nov 21 relay postfix/qmgr[1]: 4ABCDE12345: from=<p0@example.net>, size=9, nrcpt=1 (queue active)",
        "Nov 21 relay postfix/smtp[1]: 4ABCDE12345: to=<x@y.example>, dsn=5.1.1, status=bounced (unknown)",
    ]
    services.settle_by_log(log, now=later(now), complete=complete)
    assert Delivery.objects.get(pk=pk).state == "unknown"
    assert not Suppression.objects.exists()
    message.refresh_from_db()
    assert message.bounced == 0


def _moved_just_now(message: Message, at: datetime) -> None:
    Message.objects.update(moved_at=at - MINUTE)


def _never_moved(message: Message, at: datetime) -> None:
    Message.objects.update(moved_at=None)


def _held_by_a_worker(message: Message, at: datetime) -> None:
    Chunk.objects.update(lease_until=datetime.fromisoformat("2099-01-01T00:00Z"))


def _offered_to_a_provider(message: Message, at: datetime) -> None:
    Delivery.objects.filter(state="unknown").update(offered_by="resend")


@pytest.mark.parametrize("become", [_moved_just_now, _never_moved, _held_by_a_worker, _offered_to_a_provider])
def test_what_a_stopped_worker_or_another_way_may_still_have_is_not_sent_again(
    become: Callable[[Message, datetime], None], relayed: tuple[Message, Recorder], now: datetime
) -> None:
    message, recorder = relayed
    become(message, later(now))
    found = services.settle_by_log(log_of(recorder), now=later(now), complete=True)
    assert (found.accepted, found.planned, found.left) == (1, 0, 3)
    assert states() == {"accepted": 2, "unknown": 3}


def test_what_was_settled_while_the_log_was_read_stays_as_it_is(
    relayed: tuple[Message, Recorder], now: datetime
) -> None:
    message, recorder = relayed
    back = Delivery.objects.get(address_key="p2@example.net").pk

    def lines() -> Iterator[str]:
        yield from log_of(recorder)
        yield f"Nov 21 relay postfix/cleanup[1]: 4ABCDE12345: message-id={message_id_of(message, back)}"
        yield f"Nov 21 relay postfix/qmgr[1]: 4ABCDE12345: from=<{sender()}>, size=9, nrcpt=1 (queue active)"
        yield "Nov 21 relay postfix/smtp[1]: 4ABCDE12345: to=<p2@example.net>, dsn=5.0.0, status=bounced (no)"
        Delivery.objects.filter(state="unknown").update(state="delivered")

    services.settle_by_log(lines(), now=later(now), complete=True)
    assert states() == {"accepted": 1, "delivered": 4}
    message.refresh_from_db()
    assert (message.state, message.bounced) == ("done", 0)


@pytest.mark.parametrize(
    ("way", "planned"), [("django.core.mail.backends.smtp.EmailBackend", 3), (RESEND, 0)]
)
def test_what_a_restored_database_does_not_know_went_as_all_goes(
    way: str, planned: int, relayed: tuple[Message, Recorder], settings: LazySettings, now: datetime
) -> None:
    _message, recorder = relayed
    Delivery.objects.filter(state="unknown").update(
        reason=Delivery.Reason.RESTORED, offered_by="", offered_at=None, attempts=0
    )
    settings.EMAIL_BACKEND = way
    found = services.settle_by_log(log_of(recorder), now=later(now), complete=True)
    assert (found.accepted, found.planned) == (1, planned)


@pytest.mark.parametrize("lines", [[], ["hello"], ["<1.0123456789abcdef0123456789abcdef@forge.example> <= "]])
def test_a_log_that_knows_no_mail_of_ours_sends_nothing_again(
    lines: list[str], relayed: tuple[Message, Recorder], now: datetime
) -> None:
    found = services.settle_by_log(lines, now=later(now), complete=True)
    assert (found.known, found.planned, found.left) == (False, 0, 4)
    assert states() == {"accepted": 1, "unknown": 4}


def test_a_log_that_knows_others_of_ours_is_the_relays(
    relayed: tuple[Message, Recorder], now: datetime
) -> None:
    message, recorder = relayed
    first = Delivery.objects.get(address_key="p0@example.net")
    lines = [line for line in log_of(recorder) if message_id_of(message, first.pk) in line]
    found = services.settle_by_log(lines, now=later(now), complete=True)
    assert (found.known, found.accepted, found.planned) == (True, 0, 4)


@pytest.mark.parametrize("state", ["cancelled", "paused", "recalled"])
def test_what_was_taken_back_meanwhile_is_not_sent_again(
    state: str, relayed: tuple[Message, Recorder], owner: User, work: Callable[..., None], now: datetime
) -> None:
    message, recorder = relayed
    if state == "recalled":
        recall_release(message.release, because="a mistake", by=owner, now=now)
    else:
        Message.objects.update(state=state, done_at=now if state == "cancelled" else None)
    found = services.settle_by_log(log_of(recorder), now=later(now), complete=True)
    assert (found.planned, found.cancelled) == ((3, 0) if state == "paused" else (0, 3))
    work(at=later(now) + MINUTE)
    assert len(recorder.mails()) == 2
    message.refresh_from_db()
    assert message.state == (state if state != "recalled" else "done")


def test_without_evidence_nothing_in_doubt_is_ever_planned_again(
    relayed: tuple[Message, Recorder], outside: HttpProvider, settings: LazySettings, now: datetime
) -> None:
    """Whatever is asked, and whoever does not know."""
    _message, recorder = relayed
    Delivery.objects.filter(state="unknown").update(
        reason=Delivery.Reason.WORKER_LOST, attempts=F("attempts")
    )
    for way in (RESEND, POSTMARK, MAILGUN, BREVO, "django.core.mail.backends.smtp.EmailBackend"):
        settings.EMAIL_BACKEND = way
        cache.clear()
        for after in (MINUTE, timedelta(hours=20), timedelta(days=9)):
            assert services.settle_by_replay(now + after) == 0
            assert services.settle_by_search(now + after) == 0
            assert services.settle_by_log(["hello"], now=now + after, complete=True).planned == 0
            assert services.settle_by_log(["hello"], now=now + after).planned == 0
    assert states() == {"accepted": 1, "unknown": 4}
    assert len(recorder.mails()) == 2
    assert outside.mails() == []


# --- the command ------------------------------------------------------------------------------------------


def test_an_operator_settles_from_rotated_logs_and_is_told_in_numbers(
    relayed: tuple[Message, Recorder],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    now: datetime,
) -> None:
    _message, recorder = relayed
    old, new = tmp_path / "mail.log.1.gz", tmp_path / "mail.log"
    lines = log_of(recorder)
    old.write_bytes(gzip.compress(b"\xff\xfe broken\n" + lines[0].encode() + b"\n"))
    new.write_text("\n".join(lines[1:]))
    with time_machine.travel(later(now), tick=False):
        call_command("sending", "settle", "--log", str(old), "--log", str(new))
    assert (
        "1 were taken by the relay.\n0 were taken and came back.\n3 are still in doubt."
        in capsys.readouterr().out
    )
    with time_machine.travel(later(now), tick=False):
        call_command("sending", "settle", "--log", str(old), "--log", str(new), "--complete")
    assert "3 were not taken and are sent again." in capsys.readouterr().out


def test_an_operator_is_told_what_is_wrong(
    relayed: tuple[Message, Recorder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: datetime
) -> None:
    with pytest.raises(CommandError, match="No such file"):
        call_command("sending", "settle", "--log", str(tmp_path / "none"))
    with pytest.raises(CommandError, match="longer than a lease"):
        call_command("sending", "settle", "--log", "-", "--grace", "5")
    monkeypatch.setattr("sys.stdin", iter([json.dumps({"hello": 1})]))
    with pytest.raises(CommandError, match="No mail of ours"):
        call_command("sending", "settle", "--log", "-", "--complete")
    assert states() == {"accepted": 1, "unknown": 4}
