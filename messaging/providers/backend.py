"""Any Django or anymail backend. It sees less than our own SMTP does, so more of its failures leave a mail in doubt."""

from django.core.mail import get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.utils.translation import gettext as _

from messaging.mail import Mail
from messaging.providers.base import Answer, Kind, NotOpen, SignInRefused


class Backend:
    """The backend that EMAIL_BACKEND names."""

    def __init__(self) -> None:
        self._connection: BaseEmailBackend | None = None

    def open(self) -> None:
        if self._connection is not None:
            return
        connection: BaseEmailBackend = get_connection()
        try:
            connection.open()
        except Exception as error:
            raise NotOpen(
                _("The mail provider cannot be reached: %(said)s") % {"said": _said(error)}
            ) from error
        self._connection = connection

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def offer(self, mail: Mail) -> Answer:
        self.open()
        assert self._connection is not None  # noqa: S101 – for the type checker
        outgoing = mail.for_backend()
        try:
            sent = self._connection.send_messages([outgoing])
        except Exception as error:
            return _answer_of(error)
        if not sent:
            return Answer(Kind.REFUSED, _("The mail provider did not take it."))
        status = getattr(outgoing, "anymail_status", None)
        return Answer(Kind.ACCEPTED, provider_id=str(getattr(status, "message_id", None) or "")[:200])


def _answer_of(error: Exception) -> Answer:
    """What an exception of a backend proves. Where it proves nothing the mail is in doubt."""
    status = getattr(error, "status_code", None)
    if status in (401, 403):
        said = _("The mail provider does not accept our key: %(said)s") % {"said": _said(error)}
        raise SignInRefused(said) from error
    if status == 429:
        return Answer(Kind.LATER, _said(error), status)
    if status is not None and 400 <= status < 500:
        return Answer(Kind.REFUSED, _said(error), status)
    if not _NOT_CONNECTED.isdisjoint(_names(error)):
        raise NotOpen(_("The mail provider cannot be reached: %(said)s") % {"said": _said(error)}) from error
    if type(error).__name__ in _NEVER_LEFT:
        return Answer(Kind.REFUSED, _said(error))
    return Answer(Kind.IN_DOUBT, _said(error), status)


def _names(error: BaseException | None) -> set[str]:
    """The names of an exception and of those it came from."""
    names = set()
    while error is not None and type(error).__name__ not in names:
        names.add(type(error).__name__)
        error = error.__cause__ or error.__context__
    return names


# No connection came about, so nothing was offered: of urllib3, which anymail's HTTP client stands on.
_NOT_CONNECTED = {
    "NewConnectionError",
    "NameResolutionError",
    "ConnectTimeoutError",
    "ConnectionRefusedError",
}
# By name, as anymail need not be importable: what is raised before anything goes out.
_NEVER_LEFT = {
    "AnymailInvalidAddress",
    "AnymailRecipientsRefused",
    "AnymailSerializationError",
    "AnymailUnsupportedFeature",
    "BadHeaderError",
}


def _said(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:280]
