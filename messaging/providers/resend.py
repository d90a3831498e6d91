"""Resend: up to 100 mails a call, and a key under which a call is taken once in 24 hours.

https://resend.com/docs/dashboard/emails/idempotency-keys
https://resend.com/docs/api-reference/emails/send-batch-emails
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar

from messaging.providers.base import Answer, Kind
from messaging.providers.http import Http

KEY_LIVES = timedelta(hours=24)


class Resend(Http):
    name: ClassVar[str] = "resend"
    backend: ClassVar[str] = "anymail.backends.resend.EmailBackend"
    holds: ClassVar[int] = 100
    shares_calls: ClassVar[bool] = True
    # Not to the last minute: their clock is not ours.
    replays_for: ClassVar[timedelta | None] = KEY_LIVES * 0.8

    def post(self, lane: Any, payloads: Sequence[Any], key: str) -> Any:
        # One bad address must not cost the others a minute: those that are good are taken, the rest named.
        headers = {**payloads[0].headers, "x-batch-validation": "permissive"}
        if key:
            # anymail sends none.
            headers["Idempotency-Key"] = key
        body = payloads[0].serialize_json([payload.data for payload in payloads])
        return self.ask(lane, "POST", "emails/batch", data=body, headers=headers)

    def read(self, said: Any, number: int) -> list[Answer]:
        wrong = {int(one["index"]): str(one["message"])[:280] for one in said.get("errors") or ()}
        taken = [str(one["id"])[:200] for one in said["data"]]
        if len(taken) + len(wrong) != number:
            raise ValueError(f"{number} answers were due")
        ids = iter(taken)
        return [
            Answer(Kind.REFUSED, wrong[at]) if at in wrong else Answer(Kind.ACCEPTED, provider_id=next(ids))
            for at in range(number)
        ]

    def was_there(self, response: Any) -> bool:
        """Same key, other payload: the mails of this call were sent, from a payload that differed by a name, say."""
        return response.status_code == 409 and "invalid_idempotent_request" in response.text
