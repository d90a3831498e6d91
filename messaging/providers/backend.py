"""Any Django or anymail backend. It sees less than our own SMTP does, so more of its failures leave a mail in doubt."""

from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar

from django.core.mail import EmailMultiAlternatives, get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.utils.translation import gettext as _

from messaging.mail import Mail
from messaging.providers.base import Answer, Kind, NotOpen, SignInRefused
from messaging.providers.proof import in_one_line, never_connected, never_left


class Backend:
    """The backend that EMAIL_BACKEND names."""

    name: ClassVar[str] = "backend"
    shares_calls: ClassVar[bool] = False
    replays_for: ClassVar[timedelta | None] = None
    searches: ClassVar[bool] = False

    def __init__(self) -> None:
        self._connection: BaseEmailBackend | None = None
        # Why the next `open` fails.
        self._closed: NotOpen | None = None

    def open(self) -> int:
        closed, self._closed = self._closed, None
        if closed is not None:
            raise closed
        if self._connection is not None:
            return 1
        connection: BaseEmailBackend = get_connection()
        try:
            connection.open()
        except Exception as error:
            raise NotOpen(
                _("The mail provider cannot be reached: %(said)s") % {"said": in_one_line(error)}
            ) from error
        self._connection = connection
        return 1

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def offer(self, mails: Sequence[Mail]) -> list[Answer]:
        self.open()
        return [self._offer(mail) for mail in mails]

    def _offer(self, mail: Mail) -> Answer:
        assert self._connection is not None  # noqa: S101 – for the type checker
        try:
            outgoing = mail.for_backend()
        except Exception as error:
            return Answer(Kind.REFUSED, in_one_line(error))
        try:
            sent = self._connection.send_messages([outgoing])
        except Exception as error:
            try:
                # What nobody can turn into a mail has not left, whatever the backend says about it.
                return _answer_of(error) if _is_a_mail(outgoing) else Answer(Kind.REFUSED, in_one_line(error))
            except NotOpen as closed:
                self._closed = closed
                return Answer(Kind.NOT_OFFERED, str(closed))
        if not sent:
            return Answer(Kind.REFUSED, _("The mail provider did not take it."))
        status = getattr(outgoing, "anymail_status", None)
        return Answer(Kind.ACCEPTED, provider_id=str(getattr(status, "message_id", None) or "")[:200])


def _is_a_mail(outgoing: EmailMultiAlternatives) -> bool:
    try:
        outgoing.message().as_bytes()
    except Exception:
        return False
    return True


def _answer_of(error: Exception) -> Answer:
    """What an exception of a backend proves. Where it proves nothing the mail is in doubt."""
    status = getattr(error, "status_code", None)
    if status in (401, 403):
        said = _("The mail provider does not accept our key: %(said)s") % {"said": in_one_line(error)}
        raise SignInRefused(said) from error
    if status == 429:
        return Answer(Kind.LATER, in_one_line(error), status)
    if status is not None and 400 <= status < 500:
        return Answer(Kind.REFUSED, in_one_line(error), status)
    if never_connected(error):
        raise NotOpen(
            _("The mail provider cannot be reached: %(said)s") % {"said": in_one_line(error)}
        ) from error
    if never_left(error):
        return Answer(Kind.REFUSED, in_one_line(error))
    return Answer(Kind.IN_DOUBT, in_one_line(error), status)
