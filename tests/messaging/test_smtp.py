"""Our own SMTP against a server in a process of its own that misbehaves on order."""

import email
import socket
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.conf import LazySettings

from accounts.models import Suppression
from groups.models import Contact
from messaging.mail import Mail, Mailing, sample_recipient
from messaging.models import Delivery, Message
from messaging.providers import Answer, Kind, NotOpen, SignInRefused, provider
from messaging.providers.smtp import Smtp
from tests.recorder import Recorder

pytestmark = pytest.mark.django_db


@pytest.fixture
def server(tmp_path: Path, settings: LazySettings) -> Iterator[Callable[..., Recorder]]:
    started: list[Recorder] = []

    def start(*faults: str, password: str = "") -> Recorder:
        recorder = Recorder(tmp_path, faults=list(faults), raw=True, password=password).__enter__()
        started.append(recorder)
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_TIMEOUT = "127.0.0.1", recorder.port, 0.5
        settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
        settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
        return recorder

    yield start
    for recorder in started:
        recorder.__exit__(None, None, None)


@pytest.fixture
def message(
    draft: Message, people: list[Contact], confirm: Callable[..., Message], start: Callable[..., Message]
) -> Message:
    return start(confirm(draft))


def states() -> list[str]:
    return list(Delivery.objects.order_by("contact").values_list("state", flat=True))


MINUTE = timedelta(minutes=1)
GOOD = ["accepted"] * 3


@pytest.mark.parametrize(
    ("fault", "state", "says", "taken"),
    [
        ("rcpt:550 5.7.1 blocked by policy", "failed", "blocked by policy", False),
        ("rcpt:451 4.7.1 greylisted", "planned", "greylisted", False),
        ("rcpt:reset", "planned", "", False),
        ("rcpt:silence", "planned", "timed out", False),
        ("rcpt:421 going down", "planned", "going down", False),
        ("data:554 no valid recipients", "failed", "no valid", False),
        ("data:451 local error", "planned", "local error", False),
        ("content:reset", "unknown", "", False),
        ("dot:451 try later", "planned", "try later", False),
        ("dot:421 closing", "planned", "closing", False),
        ("dot:554 spam", "failed", "spam", False),
        ("dot:silence", "unknown", "timed out", False),
        ("dot:reset", "unknown", "", False),
        ("taken:reset", "unknown", "", True),
        ("taken:silence", "unknown", "timed out", True),
    ],
)
def test_how_far_it_came_decides_what_is_known(
    message: Message,
    server: Callable[..., Recorder],
    work: Callable[..., None],
    fault: str,
    state: str,
    says: str,
    taken: bool,
) -> None:
    recorder = server(f"p1@*={fault}")
    work()
    assert states() == ["accepted", state, *GOOD]
    bad = Delivery.objects.order_by("contact")[1]
    assert says in bad.reason
    assert ("p1@example.net" in [mail["to"] for mail in recorder.mails()]) == taken
    assert len(recorder.mails()) == 4 + taken


def test_an_unknown_mailbox_is_suppressed_a_policy_is_not(
    message: Message, server: Callable[..., Recorder], work: Callable[..., None]
) -> None:
    server("p1@*=rcpt:550 5.1.1 no such user", "p2@*=rcpt:550 no relaying for you", "p3@*=rcpt:450 5.1.1 odd")
    work()
    silenced = Suppression.objects.get()
    assert silenced.address_key == "p1@example.net"
    # Whose mail it was: the importing pages tell nobody else of it.
    assert silenced.creator_id == message.release.creator_id


def test_what_a_reply_means_is_the_same_at_every_step_and_without_an_enhanced_code(
    message: Message, server: Callable[..., Recorder], work: Callable[..., None]
) -> None:
    server(
        "p0@*=rcpt:550 No such user here",
        "p1@*=dot:550 5.1.1 no such user",
        "p2@*=dot:450 5.1.1 no such user",
        "p3@*=rcpt:550 5.1.1 on our blacklist",
        "p4@*=dot:552 5.2.2 full",
    )
    work()
    assert states() == ["failed", "failed", "planned", "failed", "failed"]
    silenced = Suppression.objects.order_by("address_key").values_list("address_key", flat=True)
    assert list(silenced) == ["p0@example.net", "p1@example.net"]
    message.refresh_from_db()
    assert message.bounced == 2


def test_a_mail_refused_for_a_while_goes_out_later_and_once(
    message: Message, server: Callable[..., Recorder], work: Callable[..., None], now: datetime
) -> None:
    recorder = server("p1@*!=dot:451 later")
    work()
    work(at=Delivery.objects.get(state="planned").not_before)
    assert states() == ["accepted", "accepted", *GOOD]
    assert len({mail["to"] for mail in recorder.mails()}) == len(recorder.mails()) == 5


def test_what_arrives_is_the_mail_we_wrote(
    message: Message, server: Callable[..., Recorder], work: Callable[..., None]
) -> None:
    recorder = server()
    Contact.objects.filter(address_key="p0@example.net").update(name="Zoë O'Neill")
    Message.objects.filter(pk=message.pk).update(body=".\n\n..two dots\n\nHi {first_name|friend}")
    work()
    first = next(mail for mail in recorder.mails() if mail["to"] == "p0@example.net")
    found = email.message_from_bytes(recorder.raw_of(first))
    text, html = found.get_payload()  # type: ignore[misc]
    words = text.get_payload(decode=True).decode()  # type: ignore[union-attr]
    assert ".\r\n\r\n..two dots\r\n\r\nHi Zoë" in words
    assert "Hi Zoë" in html.get_payload(decode=True).decode()  # type: ignore[union-attr]
    delivery = Delivery.objects.get(address_key="p0@example.net")
    assert found["Message-ID"] == first["message_id"]
    assert first["message_id"].startswith(f"<{delivery.pk}.")
    assert delivery.provider_id == "2.0.0 ok: queued"


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        ("mail@*=mail:451 too busy", NotOpen, "451 too busy"),
        ("mail@*=mail:550 not yours", SignInRefused, "not yours"),
    ],
)
def test_a_refused_sender_stops_the_message_not_the_mail(
    message: Message,
    server: Callable[..., Recorder],
    work: Callable[..., None],
    now: datetime,
    fault: str,
    kind: type[NotOpen],
    says: str,
) -> None:
    server(fault)
    work()
    assert states() == ["planned"] * 5
    message.refresh_from_db()
    assert says in message.waits_because
    assert message.due_at is not None
    assert (message.due_at - now).total_seconds() == kind.seconds


def test_one_mail_that_is_turned_away_at_our_sender_waits_alone(
    message: Message, server: Callable[..., Recorder], work: Callable[..., None], now: datetime
) -> None:
    recorder = server("mail@*!=mail:451 too busy")
    work()
    assert sorted(states()) == ["accepted"] * 4 + ["planned"]
    message.refresh_from_db()
    assert (message.waits_because, message.state) == ("", "running")
    waiting = Delivery.objects.get(state="planned")
    assert (waiting.not_before, waiting.reason, waiting.smtp_code) == (now + MINUTE, "451 too busy", 451)
    work(at=now + MINUTE)
    assert states() == ["accepted"] * 5
    assert len(recorder.mails()) == 5


def test_on_one_connection_the_third_that_is_turned_away_in_a_row_stops_the_message(
    message: Message,
    server: Callable[..., Recorder],
    work: Callable[..., None],
    settings: LazySettings,
    now: datetime,
) -> None:
    settings.SMTP_CONNECTIONS = 1
    server("mail@*=mail:451 too busy")
    work()
    assert states() == ["planned"] * 5
    assert list(Delivery.objects.order_by("contact").values_list("attempts", flat=True)) == [1, 1, 0, 0, 0]
    message.refresh_from_db()
    assert message.waits_because == "The mail server refuses our sender: 451 too busy"
    assert message.due_at == now + MINUTE


def test_mails_turned_away_that_are_not_in_a_row_stop_nothing(
    draft: Message, server: Callable[..., Recorder], settings: LazySettings, now: datetime
) -> None:
    settings.SMTP_CONNECTIONS = 1
    busy, free = server("mail@*=mail:451 too busy").port, server().port
    mail, way = Mailing(draft).to(sample_recipient(None, group="", now=now)), Smtp()

    def offered_at(port: int) -> Kind:
        way.close()
        settings.EMAIL_PORT = port
        way.open()
        return way.offer([mail])[0].kind

    for _round in range(3):
        assert [offered_at(port) for port in (busy, busy, free)] == [Kind.LATER, Kind.LATER, Kind.ACCEPTED]
    assert [offered_at(port) for port in (busy, busy, busy)] == [Kind.LATER, Kind.LATER, Kind.NOT_OFFERED]
    with pytest.raises(NotOpen, match="451 too busy"):
        way.open()
    way.close()


def test_a_doubt_carries_no_code_of_an_attempt_before(
    message: Message, server: Callable[..., Recorder], work: Callable[..., None], now: datetime
) -> None:
    server("p1@*!=rcpt:451 later", "p1@*=content:reset")
    work()
    assert Delivery.objects.get(state="planned").smtp_code == 451
    work(at=now + MINUTE)
    doubt = Delivery.objects.get(state="unknown")
    assert (doubt.smtp_code, doubt.provider_id, doubt.attempts) == (None, "", 2)


class Killed(BaseException):
    """As SIGKILL ends a worker."""


def test_a_worker_that_is_lost_leaves_no_code_of_an_attempt_before(
    message: Message, server: Callable[..., Recorder], work: Callable[..., None]
) -> None:
    Delivery.objects.update(smtp_code=451, provider_id="before", reason="451 later")

    class Dies(Smtp):
        def offer(self, mails: Sequence[Mail]) -> list[Answer]:
            raise Killed

    server()
    with pytest.raises(Killed):
        work(Dies())
    assert set(Delivery.objects.values_list("state", "smtp_code", "provider_id", "reason")) == {
        ("sending", None, "", "")
    }


def test_a_wrong_password_stops_the_message_and_says_so(
    message: Message, server: Callable[..., Recorder], work: Callable[..., None], settings: LazySettings
) -> None:
    recorder = server(password="secret")
    settings.EMAIL_HOST_USER, settings.EMAIL_HOST_PASSWORD = "ana", "wrong"
    work()
    message.refresh_from_db()
    assert message.waits_because == "The mail server does not accept our sign-in: 535 5.7.8 wrong password"
    settings.EMAIL_HOST_PASSWORD = "secret"
    assert message.due_at is not None
    work(at=message.due_at)
    assert len(recorder.mails()) == 5


def test_a_server_without_tls_gets_no_password(
    server: Callable[..., Recorder], settings: LazySettings
) -> None:
    server()
    settings.EMAIL_USE_TLS = True
    with pytest.raises(SignInRefused):
        provider().open()


def test_a_server_that_is_away_leaves_everything_as_it_is(
    message: Message, server: Callable[..., Recorder], work: Callable[..., None], settings: LazySettings
) -> None:
    server()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        settings.EMAIL_PORT = free.getsockname()[1]
    work()
    assert states() == ["planned"] * 5
    message.refresh_from_db()
    assert "cannot be reached" in message.waits_because


def test_opening_and_closing_twice_is_one_connection(
    draft: Message, server: Callable[..., Recorder], now: datetime
) -> None:
    recorder = server()
    way = Smtp()
    way.close()
    for _twice in range(2):
        way.open()
    mail = Mailing(draft).to(sample_recipient(None, group="", now=now))
    assert way.offer([mail])[0].kind == Kind.ACCEPTED
    recorder.process.kill()
    recorder.process.wait()
    way.close()
    way.close()
