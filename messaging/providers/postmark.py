"""Postmark: many mails a call, each with its own answer; no key, but it can be asked for our mark.

https://postmarkapp.com/developer/api/email-api
https://postmarkapp.com/developer/api/overview#error-codes
https://postmarkapp.com/support/article/1125-custom-metadata-faq
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from django.core.mail import EmailMultiAlternatives
from django.utils.translation import gettext as _

from messaging.providers.base import Answer, Kind, NotOpen, SignInRefused
from messaging.providers.http import Http

# Bad token, unknown or unconfirmed sender, no credit, account pending or closed, no such stream.
ABOUT_US = {10, 400, 401, 405, 412, 413, 1235}
MAINTENANCE, RATE = 100, 429


class Postmark(Http):
    name: ClassVar[str] = "postmark"
    backend: ClassVar[str] = "anymail.backends.postmark.EmailBackend"
    # They allow 500 mails and 50 MB in a call; ours have up to 80 kB of HTML each, and text beside it.
    holds: ClassVar[int] = 200
    shares_calls: ClassVar[bool] = True
    searches: ClassVar[bool] = True

    def dress(self, outgoing: EmailMultiAlternatives) -> None:
        # Otherwise it makes a Message-ID of its own.
        outgoing.extra_headers["X-PM-KeepID"] = "true"

    def post(self, lane: Any, payloads: Sequence[Any], key: str) -> Any:
        body = payloads[0].serialize_json([payload.data for payload in payloads])
        return self.ask(lane, "POST", "email/batch", data=body, headers=_headers(lane, payloads[0].headers))

    def read(self, said: Any, number: int) -> list[Answer]:
        if len(said) != number:
            raise ValueError(f"{number} answers were due")
        return [self._answer(one) for one in said]

    def look_up(self, lane: Any, message_id: str) -> Answer | None:
        # One field at a time is all it can search by; our mark is in one.
        query = {"count": 1, "offset": 0, "metadata_mail": message_id.strip("<>").partition("@")[0]}
        stream = lane.send_defaults.get("esp_extra", {}).get("MessageStream") or lane.message_stream
        if stream:
            # Otherwise it looks in the one for letters only.
            query["messagestream"] = stream
        headers = _headers(lane, {"Accept": "application/json"})
        response = self.ask(lane, "GET", "messages/outbound", params=query, headers=headers)
        mails = response.json()["Messages"]
        return Answer(Kind.ACCEPTED, provider_id=str(mails[0]["MessageID"])[:200]) if mails else None

    def _answer(self, said: Any) -> Answer:
        code, words = int(said.get("ErrorCode", 0)), str(said.get("Message", ""))[:280]
        if code == 0:
            return Answer(Kind.ACCEPTED, provider_id=str(said["MessageID"])[:200])
        if code in ABOUT_US:
            refused = _("The mail provider does not accept our key: %(said)s") % {"said": f"{code} {words}"}
            return self.not_asked(SignInRefused(refused), 1)[0]
        if code in (MAINTENANCE, RATE):
            wait = _("The mail provider wants no more just now: %(said)s") % {"said": words}
            return self.not_asked(NotOpen(wait), 1)[0]
        # An inactive recipient (406) too. Not suppressed by us: it may be a complaint about this stream alone, and
        # sign-in codes go by another.
        return Answer(Kind.REFUSED, words, code)


def _headers(lane: Any, others: dict[str, str]) -> dict[str, str]:
    return {**others, "X-Postmark-Server-Token": lane.server_token}
