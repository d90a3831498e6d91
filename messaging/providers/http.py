"""Providers that are called over HTTP, on top of anymail, which knows how each of them wants a mail written.

What an answer proves, as far as it is the same for all of them: no connection, 401, 403 and 429 mean that nothing was
taken, and are about us; any other 4xx that nothing was taken, because of a mail; 5xx, 408, silence and a reset prove
nothing. A call that holds several mails and is refused says nothing about each of them: they go alone next.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar
from urllib.parse import urljoin

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _
from requests.exceptions import InvalidURL, MissingSchema, RequestException

from messaging.mail import Mail
from messaging.providers.base import Answer, Kind, NotOpen, SignInRefused
from messaging.providers.proof import in_one_line, never_connected

# A connection that lay idle may be closed on the other side just as we speak, which would leave a mail in doubt.
IDLE_SECONDS = 4.0
# What is about us and not about a mail: the key, the bill, the address of the service.
ABOUT_US = (401, 402, 403, 404, 405)
LONGEST_WAIT = 3600.0
# So long it is waited for at once: some take so many calls a second and refuse the next.
MOMENT_SECONDS = 3.0


@dataclass
class Call:
    """Mails that go in one call, and what is known of them; None: not yet."""

    lane: Any
    mails: Sequence[Mail]
    answers: list[Answer | None] = field(default_factory=list)
    # As the provider wants them, of those that it can be told of.
    payloads: list[Any] = field(default_factory=list)

    def complete(self, rest: Sequence[Answer]) -> list[Answer]:
        """All answers, `rest` being those of the mails that were in the call."""
        left = iter(rest)
        return [known or next(left) for known in self.answers]


class Http:
    """One provider: what it can do is declared, how it is called and what it answers is in its own module."""

    name: ClassVar[str]
    # anymail's backend, by its path.
    backend: ClassVar[str]
    # So many mails in a call, or where a call holds one, so many calls at a time.
    holds: ClassVar[int]
    shares_calls: ClassVar[bool] = False
    replays_for: ClassVar[timedelta | None] = None
    searches: ClassVar[bool] = False

    def __init__(self) -> None:
        self._lanes: list[Any] = []
        self._used = time.monotonic()
        # Why the next `open` fails.
        self._closed: NotOpen | None = None

    def open(self) -> int:
        closed, self._closed = self._closed, None
        if closed is not None:
            self._wait_or_raise(closed)
        if time.monotonic() - self._used > IDLE_SECONDS:
            self.close()
        while len(self._lanes) < (1 if self.shares_calls else self.holds):
            self._lanes.append(self._lane())
        return self.holds

    def close(self) -> None:
        lanes, self._lanes = self._lanes, []
        for lane in lanes:
            lane.close()

    def offer(self, mails: Sequence[Mail]) -> list[Answer]:
        if self.shares_calls:
            return self._carry_out(self._written(self._lanes[0], mails))
        calls = [self._written(lane, [mail]) for lane, mail in zip(self._lanes, mails, strict=False)]
        if len(calls) == 1:
            return self._carry_out(calls[0])
        with ThreadPoolExecutor(len(calls)) as together:
            return [answer for answers in together.map(self._carry_out, calls) for answer in answers]

    def repeat(self, mails: Sequence[Mail]) -> list[Answer]:
        """What became of a call that was made before and is now made again under its key. Only of who `replays_for`.

        ACCEPTED and REFUSED are proved, whether by the call before or by this one. Anything else proves nothing.
        """
        self.open()
        call = self._written(self._lanes[0], mails)
        if any(call.answers):
            return [Answer(Kind.IN_DOUBT)] * len(mails)
        return self._carry_out(call, again=True)

    def find(self, message_ids: Sequence[str]) -> dict[str, Answer]:
        """What became of those of `message_ids` that it has. Who is missing may still come. Only of who `searches`.

        Raises `NotOpen`. What it does not answer is not found.
        """
        self.open()
        found = {}
        for message_id in message_ids:
            try:
                answer = self.look_up(self._lanes[0], message_id)
            except (RequestException, LookupError, TypeError, ValueError):
                break
            if answer is not None:
                found[message_id] = answer
        return found

    # --- what each provider says for itself ---------------------------------------------------------------

    def look_up(self, lane: Any, message_id: str) -> Answer | None:
        """What it has under `message_id`, if anything. Raises as `requests` does, and as `read`."""
        raise NotImplementedError

    def post(self, lane: Any, payloads: Sequence[Any], key: str) -> Any:
        """The answer to the one request that offers them all. `key` is empty for a mail that is nobody's delivery."""
        raise NotImplementedError

    def read(self, said: Any, number: int) -> list[Answer]:
        """What a 2xx with `said` means for each of `number` mails. Raises LookupError, TypeError or ValueError."""
        raise NotImplementedError

    def dress(self, outgoing: EmailMultiAlternatives) -> None:
        """What else this provider needs in a mail."""

    def was_there(self, response: Any) -> bool:
        """Whether a refusal says that a call under this key was taken before."""
        return False

    # --- the rest is the same for all ---------------------------------------------------------------------

    def ask(self, lane: Any, method: str, path: str, **request: Any) -> Any:
        """One request; never a second one, and nowhere else than asked."""
        return lane.session.request(
            method,
            urljoin(lane.api_url, path),
            timeout=settings.EMAIL_TIMEOUT,
            allow_redirects=False,
            **request,
        )

    def not_asked(self, closed: NotOpen, number: int) -> list[Answer]:
        """Nothing of the call was taken, for a reason that is about us: the next `open` says it."""
        self._closed = closed
        return [Answer(Kind.NOT_OFFERED, str(closed))] * number

    def failed(self, error: Exception, number: int) -> list[Answer]:
        """What it proves that there was no answer."""
        if never_connected(error) or isinstance(error, InvalidURL | MissingSchema):
            said = _("The mail provider cannot be reached: %(said)s") % {"said": in_one_line(error)}
            return self.not_asked(NotOpen(said), number)
        return [Answer(Kind.IN_DOUBT, in_one_line(error))] * number

    def heard(self, response: Any, number: int) -> list[Answer]:
        """What an answer proves of the `number` mails in the call."""
        code, said = int(response.status_code), words_of(response)
        if 200 <= code < 300:
            try:
                return self.read(response.json(), number)
            except (LookupError, TypeError, ValueError):
                return [Answer(Kind.IN_DOUBT, _("The mail provider's answer was not clear."), code)] * number
        if code in ABOUT_US or 300 <= code < 400:
            refused = _("The mail provider does not accept our key: %(said)s") % {"said": f"{code} {said}"}
            return self.not_asked(SignInRefused(refused), number)
        if code == 429:
            return self.not_asked(_not_now(response, said), number)
        if code in (408, 409) or code >= 500 or self.was_there(response):
            return [Answer(Kind.IN_DOUBT, said, code)] * number
        return [Answer(Kind.LATER if number > 1 else Kind.REFUSED, said, code)] * number

    def _carry_out(self, call: Call, *, again: bool = False) -> list[Answer]:
        number = len(call.payloads)
        if not number:
            return call.complete([])
        try:
            response = self.post(call.lane, call.payloads, key_of(call.mails[0]))
        except Exception as error:
            rest = self.failed(error, number)
        else:
            rest = self._heard_again(response, number) if again else self.heard(response, number)
        self._used = time.monotonic()
        return call.complete(rest)

    def _heard_again(self, response: Any, number: int) -> list[Answer]:
        if self.was_there(response):
            return [Answer(Kind.ACCEPTED, code=int(response.status_code))] * number
        answers = self.heard(response, number)
        # A refusal is of this call; what became of the one before it does not say.
        refused = not 200 <= int(response.status_code) < 300
        return [Answer(Kind.IN_DOUBT, one.said, one.code) for one in answers] if refused else answers

    def _wait_or_raise(self, closed: NotOpen) -> None:
        """Whoever wants no more for a moment gets that moment, before anything is written down of the next mails."""
        if closed.seconds > MOMENT_SECONDS:
            raise closed
        time.sleep(closed.seconds)

    def _lane(self) -> Any:
        try:
            lane = import_string(self.backend)()
            lane.open()
        except Exception as error:
            said = _("The mail provider is not set up: %(said)s") % {"said": in_one_line(error)}
            raise SignInRefused(said) from error
        return lane

    def _written(self, lane: Any, mails: Sequence[Mail]) -> Call:
        """The call that offers `mails`; those that cannot be written down for this provider are refused already."""
        call = Call(lane, mails)
        for mail in mails:
            try:
                outgoing = marked(mail)
                self.dress(outgoing)
                call.payloads.append(lane.build_message_payload(outgoing, lane.send_defaults))
                call.answers.append(None)
            # Whatever it is: what cannot be written down does not leave, and must not stop who does.
            except Exception as error:
                call.answers.append(Answer(Kind.REFUSED, in_one_line(error)))
        return call


def marked(mail: Mail) -> EmailMultiAlternatives:
    """The mail with what its events and a search are to know it by."""
    outgoing = mail.for_backend()
    outgoing.metadata = {"delivery": str(mail.recipient.delivery), "mail": mark_of(mail)}  # type: ignore[attr-defined]
    outgoing.tags = [str(mail.mailing.message.kind)]  # type: ignore[attr-defined]
    return outgoing


def mark_of(mail: Mail) -> str:
    """The Message-ID up to its @: short enough for any provider, and nobody else's."""
    return mail.mailing.message_id(mail.recipient.delivery).strip("<>").partition("@")[0]


def key_of(first: Mail) -> str:
    """The key of the call that `first` begins: the same whenever it is repeated, and no other call's.

    Not made from what is in it: should a name have changed meanwhile, the provider says that it has this call, and
    sends none of it twice.
    """
    request, call = first.mailing.message.request_id, first.recipient.call
    return f"largesse-{request.hex}-{call}" if request and call else ""


def words_of(response: Any) -> str:
    """What a provider says for people, in one line."""
    try:
        body = response.json()
        said = next((str(body[name]) for name in ("message", "Message", "error") if body.get(name)), "")
    except (ValueError, AttributeError):
        said = ""
    return (" ".join((said or response.text or response.reason or "").split()))[:280]


def _not_now(response: Any, said: str) -> NotOpen:
    """Too many at once, or in a day; how long to wait is what the provider says."""
    closed = NotOpen(_("The mail provider wants no more just now: %(said)s") % {"said": said})
    closed.seconds = _seconds(response.headers.get("Retry-After", "")) or closed.seconds
    return closed


def _seconds(wait: str) -> float:
    """Of a Retry-After, which is seconds or a date; 0 if it is neither."""
    if wait.strip().isdigit():
        return min(float(wait), LONGEST_WAIT)
    try:
        at = parsedate_to_datetime(wait)
    except ValueError:
        return 0.0
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, min((at - datetime.now(UTC)).total_seconds(), LONGEST_WAIT))
