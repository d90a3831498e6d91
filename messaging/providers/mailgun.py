"""Mailgun: one mail a call, no key, but its events can be asked for our Message-ID.

https://documentation.mailgun.com/docs/mailgun/api-reference/send/mailgun/events
"""

from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import quote

from django.conf import settings
from django.utils.translation import gettext as _

from messaging.providers.base import Answer, Kind
from messaging.providers.http import Http


class Mailgun(Http):
    name: ClassVar[str] = "mailgun"
    backend: ClassVar[str] = "anymail.backends.mailgun.EmailBackend"
    holds: ClassVar[int] = 8
    searches: ClassVar[bool] = True

    def post(self, lane: Any, payloads: Sequence[Any], key: str) -> Any:
        [payload] = payloads
        data = payload.serialize_data()
        return self.ask(
            lane, "POST", payload.get_api_endpoint(), data=data, files=payload.files, auth=payload.auth
        )

    def read(self, said: Any, number: int) -> list[Answer]:
        return [Answer(Kind.ACCEPTED, provider_id=str(said["id"])[:200])]

    def look_up(self, lane: Any, message_id: str) -> Answer | None:
        domain = lane.sender_domain or settings.MAIL_FROM.rpartition("@")[2].strip("> ")
        query: dict[str, str | int] = {"message-id": message_id.strip("<>"), "limit": 25}
        path = f"{quote(domain, safe='')}/events"
        response = self.ask(lane, "GET", path, params=query, auth=("api", lane.api_key))
        events = {str(item["event"]) for item in response.json()["items"]}
        if events - {"rejected"}:
            return Answer(Kind.ACCEPTED, provider_id=message_id[:200])
        return Answer(Kind.REFUSED, _("The mail provider did not take it.")) if events else None
