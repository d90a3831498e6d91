"""SMTP by hand, as `smtplib.sendmail` does not say how far it came: before the data was sent a failure proves that
nothing was taken, after it nothing proves anything.

A wave is one mail on each of several connections: all of them are asked before any is waited for.
"""

import smtplib
import ssl
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import ClassVar
from urllib.parse import urlsplit

from django.conf import settings
from django.utils.translation import gettext as _

from messaging.mail import Mail
from messaging.providers.base import Answer, Kind, NotOpen, SignInRefused
from messaging.providers.meanings import names_nobody

_BROKEN = (smtplib.SMTPException, OSError)
# So many mails one after the other that are turned away at the sender's name are no accident: the server wants none.
TURNED_AWAY = 3


class Smtp:
    """Up to SMTP_CONNECTIONS connections to the server that EMAIL_URL names."""

    name: ClassVar[str] = "smtp"
    shares_calls: ClassVar[bool] = False
    replays_for: ClassVar[timedelta | None] = None
    searches: ClassVar[bool] = False

    def __init__(self) -> None:
        self._servers: list[smtplib.SMTP] = []
        # More than these the server did not want just now.
        self._most = settings.SMTP_CONNECTIONS
        # Why the next `open` fails: the server said something about us, not about a mail.
        self._closed: NotOpen | None = None
        # How many mails in a row it turned away for now, before it heard whom they are for.
        self._turned_away = 0

    def open(self) -> int:
        closed, self._closed = self._closed, None
        if closed is not None:
            raise closed
        if not self._servers:
            self._servers.append(_connect())
        while len(self._servers) < self._most:
            try:
                self._servers.append(_connect())
            except NotOpen:
                self._most = len(self._servers)
        return len(self._servers)

    def close(self) -> None:
        servers, self._servers = self._servers, []
        for server in servers:
            try:
                server.quit()
            except _BROKEN:
                server.close()

    def offer(self, mails: Sequence[Mail]) -> list[Answer]:
        self.open()
        talks = [_Talk(server, mail) for server, mail in zip(self._servers, mails, strict=False)]
        for step in (_Talk.announce, _Talk.hear_envelope, _Talk.hand_over, _Talk.hear_verdict):
            # What one of them waits for arrives meanwhile for the others: they share the time, not queue for it.
            deadline = time.monotonic() + settings.EMAIL_TIMEOUT
            for talk in talks:
                talk.take(step, deadline)
        self._servers = [
            *(talk.server for talk in talks if not talk.broken),
            *self._servers[len(mails) :],
        ]
        refused = next((talk.refused for talk in talks if talk.refused), None)
        self._closed = refused or self._busy(talks)
        return [talk.answer or Answer(Kind.IN_DOUBT) for talk in talks]

    def _busy(self, talks: "Sequence[_Talk]") -> NotOpen | None:
        """Whether the server turned so many away, one after the other, that it wants no mail just now.

        One alone waits by itself, as any other mail that is not taken for now; all of them together have not been tried.
        """
        away = [talk for talk in talks if talk.busy]
        if len(away) < len(talks):
            self._turned_away = 0
            return None
        self._turned_away += len(away)
        if self._turned_away < TURNED_AWAY:
            return None
        self._turned_away = 0
        closed = NotOpen(_sender_refused(away[0].busy))
        for talk in away:
            talk.answer = Answer(Kind.NOT_OFFERED, str(closed))
        return closed


class _Talk:
    """One mail on one connection, in four steps."""

    def __init__(self, server: smtplib.SMTP, mail: Mail) -> None:
        self.server, self.mail = server, mail
        self.answer: Answer | None = None
        # What was said of our sender: for good, or for now.
        self.refused: NotOpen | None = None
        self.busy = ""
        self.broken = False
        self._content_sent = False

    def take(self, step: "Callable[[_Talk], None]", deadline: float) -> None:
        """One step further, unless the mail has its answer. A failure before the content proves that nothing was taken."""
        if self.answer is not None:
            return
        try:
            self._give_until(deadline)
            step(self)
        except _BROKEN as error:
            self._break()
            self.answer = Answer(Kind.IN_DOUBT if self._content_sent else Kind.LATER, _said(error))

    def _give_until(self, deadline: float) -> None:
        """At least a moment: what the server has said already is read even when the time is up."""
        left = max(0.01, deadline - time.monotonic())
        sock = self.server.sock
        # To set it is a call to the system; to the second it need not be true.
        if sock is not None and not left <= (sock.gettimeout() or 0.0) <= left + 1:
            sock.settimeout(left)

    def announce(self) -> None:
        """MAIL, RCPT and DATA in one go where the server allows that."""
        self._sender = f"MAIL FROM:<{self.mail.sender}>\r\n"
        self._pipelined = self.server.has_extn("pipelining")
        rest = f"RCPT TO:<{self.mail.address}>\r\nDATA\r\n" if self._pipelined else ""
        self.server.send(self._sender + rest)

    def hear_envelope(self) -> None:
        code, text = self.server.getreply()
        if code != 250:
            self._sender_refused(code, f"{code} {_words(text)}")
            return
        if not self._pipelined:
            self.server.send(f"RCPT TO:<{self.mail.address}>\r\n")
        code, text = self.server.getreply()
        if code not in (250, 251):
            self._refused(_not_taken(code, _words(text)))
            return
        if not self._pipelined:
            self.server.send("DATA\r\n")
        code, text = self.server.getreply()
        if code != 354:
            self.answer = Answer(_kind(code), _words(text), code)
            self._reset()

    def _sender_refused(self, code: int, said: str) -> None:
        """For good it is about us, and every other mail would hear the same; for now it may be about this moment."""
        if code >= 500:
            self.refused = SignInRefused(_sender_refused(said))
            self.answer = Answer(Kind.NOT_OFFERED, str(self.refused), code)
        else:
            self.busy = said
            self.answer = Answer(Kind.LATER, said, code)
        self._break()

    def hand_over(self) -> None:
        """The content and the dot that ends it; from its first byte on only the server's answer proves anything."""
        raw = self.mail.raw.replace(b"\r\n.", b"\r\n..")
        self._content_sent = True
        self.server.send((b"." + raw if raw.startswith(b".") else raw) + b".\r\n")

    def hear_verdict(self) -> None:
        code, text = self.server.getreply()
        said = _words(text)
        if code == 250:
            self.answer = Answer(Kind.ACCEPTED, code=code, provider_id=said[:200])
            return
        if code == 421:
            self._break()
        self.answer = _not_taken(code, said)

    def _refused(self, answer: Answer) -> None:
        """The recipient was refused. If the server heard DATA with it, its answer to that has to be heard too."""
        self.answer = answer
        if self._pipelined and self.server.getreply()[0] == 354:
            # It waits for a mail to nobody.
            self._break()
            return
        self._reset()

    def _reset(self) -> None:
        """Ready for the next mail after a refused one."""
        try:
            self.server.rset()
        except _BROKEN:
            self._break()

    def _break(self) -> None:
        """The connection is of no use any more; the next intent begins with a new one."""
        self.broken = True
        self.server.close()


def _sender_refused(said: str) -> str:
    return _("The mail server refuses our sender: %(said)s") % {"said": said}


def _not_taken(code: int, said: str) -> Answer:
    """What a reply says of the mail and its one recipient, at the envelope or after the content."""
    return Answer(_kind(code), said, code, no_such_address=code >= 500 and names_nobody(f"{code} {said}"))


def _kind(code: int) -> Kind:
    return Kind.REFUSED if code >= 500 else Kind.LATER


def _trusted() -> ssl.SSLContext:
    """By itself `smtplib` asks for no certificate. This wants a good one, for the very name that was asked for."""
    return ssl.create_default_context()


def _connect() -> smtplib.SMTP:
    """A connection that is signed in. Raises `NotOpen`."""
    kind = partial(smtplib.SMTP_SSL, context=_trusted()) if settings.EMAIL_USE_SSL else smtplib.SMTP
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
            server.starttls(context=_trusted())
            server.ehlo()
        if settings.EMAIL_HOST_USER:
            server.login(settings.EMAIL_HOST_USER, settings.EMAIL_HOST_PASSWORD)
    except _BROKEN as error:
        if server is not None:
            server.close()
        if isinstance(error, ssl.SSLCertVerificationError):
            said = _("The mail server's certificate is not to be trusted: %(said)s") % {"said": _said(error)}
            raise SignInRefused(said) from error
        if isinstance(error, smtplib.SMTPAuthenticationError | smtplib.SMTPNotSupportedError):
            said = _("The mail server does not accept our sign-in: %(said)s") % {"said": _said(error)}
            raise SignInRefused(said) from error
        said = _("The mail server cannot be reached: %(said)s") % {"said": _said(error)}
        raise NotOpen(said) from error
    return server


def _words(text: bytes) -> str:
    return " ".join(text.decode("utf-8", "replace").split())[:280]


def _said(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        text = error.smtp_error
        return f"{error.smtp_code} {_words(text if isinstance(text, bytes) else str(text).encode())}"
    return (str(error) or type(error).__name__)[:280]
