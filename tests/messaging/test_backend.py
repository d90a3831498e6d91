"""What the exceptions of a Django or anymail backend prove."""

from collections.abc import Callable
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from anymail.exceptions import AnymailInvalidAddress, AnymailRequestsAPIError
from django.conf import LazySettings
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from requests.exceptions import ConnectionError as RequestsConnectionError
from urllib3.exceptions import NewConnectionError

from messaging.mail import Mail, Mailing, sample_recipient
from messaging.models import Message
from messaging.providers import Kind, NotOpen, SignInRefused
from messaging.providers.backend import Backend

pytestmark = pytest.mark.django_db


class Obedient(BaseEmailBackend):
    """A backend outside this house that does what a test says."""

    on_open: Callable[[], None] | None = None
    on_send: Callable[[EmailMessage], int] | None = None

    def open(self) -> bool | None:
        if Obedient.on_open:
            Obedient.on_open()
        return True

    def send_messages(self, messages: Any) -> int:
        return Obedient.on_send(messages[0]) if Obedient.on_send else len(messages)


@pytest.fixture
def mail(draft: Message, now: datetime, settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> Mail:
    settings.EMAIL_BACKEND = f"{__name__}.Obedient"
    monkeypatch.setattr(Obedient, "on_open", None)
    monkeypatch.setattr(Obedient, "on_send", None)
    return Mailing(draft).to(sample_recipient(None, group="Patrons", now=now))


def api_error(status: int | None) -> Exception:
    response = SimpleNamespace(status_code=status, reason="", url="", text="") if status else None
    return AnymailRequestsAPIError("the provider said so", response=response)


def unconnected() -> Exception:
    try:
        try:
            raise NewConnectionError(None, "refused")  # type: ignore[arg-type]
        except NewConnectionError as error:
            raise RequestsConnectionError from error
    except RequestsConnectionError as error:
        found = AnymailRequestsAPIError("no connection")
        found.__cause__ = error
        return found


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (api_error(400), Kind.REFUSED),
        (api_error(422), Kind.REFUSED),
        (api_error(429), Kind.LATER),
        (api_error(500), Kind.IN_DOUBT),
        (api_error(503), Kind.IN_DOUBT),
        (api_error(None), Kind.IN_DOUBT),
        (TimeoutError(), Kind.IN_DOUBT),
        (AnymailInvalidAddress("no"), Kind.REFUSED),
    ],
)
def test_an_exception_says_no_more_than_it_proves(
    mail: Mail, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: Kind
) -> None:
    def fail(_message: EmailMessage) -> int:
        raise error

    monkeypatch.setattr(Obedient, "on_send", staticmethod(fail))
    [answer] = Backend().offer([mail])
    assert answer.kind == kind
    assert answer.said


@pytest.mark.parametrize(
    ("error", "kind"),
    [(api_error(401), SignInRefused), (api_error(403), SignInRefused), (unconnected(), NotOpen)],
)
def test_what_concerns_every_mail_stops_all_of_them(
    mail: Mail, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[NotOpen]
) -> None:
    def fail(_message: EmailMessage) -> int:
        raise error

    monkeypatch.setattr(Obedient, "on_send", staticmethod(fail))
    way = Backend()
    assert way.offer([mail])[0].kind == Kind.NOT_OFFERED
    with pytest.raises(kind):
        way.open()


def test_a_backend_that_does_not_open_is_not_open(mail: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError("no route")

    monkeypatch.setattr(Obedient, "on_open", staticmethod(fail))
    with pytest.raises(NotOpen, match="no route"):
        Backend().open()


def test_what_the_provider_calls_it_is_kept(mail: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    def take(message: Any) -> int:
        message.anymail_status = SimpleNamespace(message_id="abc-1")
        return 1

    monkeypatch.setattr(Obedient, "on_send", staticmethod(take))
    way = Backend()
    for _twice in range(2):
        way.open()
    assert way.offer([mail])[0].provider_id == "abc-1"
    way.close()
    way.close()


def test_a_backend_that_takes_none_refused_it(mail: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Obedient, "on_send", staticmethod(lambda _message: 0))
    assert Backend().offer([mail])[0].kind == Kind.REFUSED


def test_what_is_no_mail_at_all_never_left(mail: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(message: EmailMessage) -> int:
        message.attach("a file", "\udc80", "text/plain")
        return len(message.message().as_bytes())

    monkeypatch.setattr(Obedient, "on_send", stumble)
    way = Backend()
    way.open()
    [answer] = way.offer([mail])
    assert answer.kind == Kind.REFUSED


def test_what_cannot_even_be_handed_over_never_left(mail: Mail) -> None:
    broken = Mail(mail.mailing, mail.recipient._replace(unsubscribe_url=None))
    broken.__dict__["_values"] = None
    way = Backend()
    way.open()
    [answer] = way.offer([broken])
    assert answer.kind == Kind.REFUSED
