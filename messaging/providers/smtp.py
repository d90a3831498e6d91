"""SMTP by hand, as `smtplib.sendmail` does not say how far it came: before the data was sent a failure proves that
nothing was taken, after it nothing proves anything.
"""

import re
import smtplib
import ssl
from urllib.parse import urlsplit

from django.conf import settings
from django.utils.translation import gettext as _

from messaging.mail import Mail
from messaging.providers.base import Answer, Kind, NotOpen, SignInRefused

# "5.1.1 User unknown" and its neighbours speak of the address; a bare 550 may be about us.
_NO_SUCH_ADDRESS = re.compile(r"\b5\.1\.(?:1|2|3|6|10)\b")


class Smtp:
    """One connection to the server that EMAIL_URL names."""

    def __init__(self) -> None:
        self._server: smtplib.SMTP | None = None

    def open(self) -> None:
        if self._server is None:
            self._server = _connect()

    def close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            try:
                server.quit()
            except (smtplib.SMTPException, OSError):
                server.close()

    def offer(self, mail: Mail) -> Answer:
        self.open()
        server = self._server
        assert server is not None  # noqa: S101 – for the type checker
        try:
            refused = _envelope(server, mail)
        except (smtplib.SMTPException, OSError) as error:
            # Before DATA: nothing was taken, whatever happened to the connection.
            self._drop()
            return Answer(Kind.LATER, _said(error))
        if refused is not None:
            self._reset(server)
            return refused
        try:
            code, text = _hand_over(server, mail.raw)
        except (smtplib.SMTPException, OSError) as error:
            self._drop()
            return Answer(Kind.IN_DOUBT, _said(error))
        said = _words(text)
        if code == 250:
            return Answer(Kind.ACCEPTED, code=code, provider_id=said[:200])
        if code == 421:
            self._drop()
        return Answer(Kind.REFUSED if code >= 500 else Kind.LATER, said, code)

    def _reset(self, server: smtplib.SMTP) -> None:
        """Ready for the next mail after a refused one."""
        try:
            server.rset()
        except (smtplib.SMTPException, OSError):
            self._drop()

    def _drop(self) -> None:
        """The connection is of no use any more; the next intent begins with a new one."""
        server, self._server = self._server, None
        if server is not None:
            server.close()


def _connect() -> smtplib.SMTP:
    """A connection that is signed in. Raises `NotOpen`."""
    kind = smtplib.SMTP_SSL if settings.EMAIL_USE_SSL else smtplib.SMTP
    server: smtplib.SMTP | None = None
    try:
        server = kind(
            settings.EMAIL_HOST,
            settings.EMAIL_PORT,
            # Not looked up: a machine without a name of its own would wait for DNS.
            local_hostname=urlsplit(settings.SITE_URL).hostname or "localhost",
            timeout=settings.EMAIL_TIMEOUT,
        )
        server.ehlo_or_helo_if_needed()
        if settings.EMAIL_USE_TLS:
            server.starttls(context=ssl.create_default_context())
            server.ehlo()
        if settings.EMAIL_HOST_USER:
            server.login(settings.EMAIL_HOST_USER, settings.EMAIL_HOST_PASSWORD)
    except (smtplib.SMTPException, OSError) as error:
        if server is not None:
            server.close()
        if isinstance(error, smtplib.SMTPAuthenticationError | smtplib.SMTPNotSupportedError):
            said = _("The mail server does not accept our sign-in: %(said)s") % {"said": _said(error)}
            raise SignInRefused(said) from error
        said = _("The mail server cannot be reached: %(said)s") % {"said": _said(error)}
        raise NotOpen(said) from error
    return server


def _envelope(server: smtplib.SMTP, mail: Mail) -> Answer | None:
    """MAIL, RCPT and DATA; an answer if the mail was refused on the way, None if its content may follow.

    Raises `NotOpen` if the sender is refused: that is about us, and every other mail would hear the same.
    """
    code, text = server.mail(mail.sender)
    if code != 250:
        said = _("The mail server refuses our sender: %(said)s") % {"said": f"{code} {_words(text)}"}
        raise SignInRefused(said) if code >= 500 else NotOpen(said)
    code, text = server.rcpt(mail.address)
    if code not in (250, 251):
        said = _words(text)
        unknown = code >= 500 and _NO_SUCH_ADDRESS.search(said) is not None
        return Answer(Kind.REFUSED if code >= 500 else Kind.LATER, said, code, no_such_address=unknown)
    code, text = server.docmd("DATA")
    if code != 354:
        return Answer(Kind.REFUSED if code >= 500 else Kind.LATER, _words(text), code)
    return None


def _hand_over(server: smtplib.SMTP, raw: bytes) -> tuple[int, bytes]:
    """The content and the dot that ends it; from the first byte on only the server's answer proves anything."""
    stuffed = raw.replace(b"\r\n.", b"\r\n..")
    server.send((b"." + stuffed if stuffed.startswith(b".") else stuffed) + b".\r\n")
    return server.getreply()


def _words(text: bytes) -> str:
    return " ".join(text.decode("utf-8", "replace").split())[:280]


def _said(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        text = error.smtp_error
        return f"{error.smtp_code} {_words(text if isinstance(text, bytes) else str(text).encode())}"
    return (str(error) or type(error).__name__)[:280]
