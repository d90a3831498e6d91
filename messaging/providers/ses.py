"""Amazon SES: one mail a call, no key, nothing to ask: it writes its own Message-ID over ours.

https://docs.aws.amazon.com/ses/latest/dg/header-fields.html
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from botocore.config import Config
from botocore.exceptions import ClientError
from django.conf import settings
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from messaging.providers.base import Answer, Kind, NotOpen, SignInRefused
from messaging.providers.http import Http

# By their names, as the status is 400 for all of them.
NOT_NOW = {"TooManyRequestsException", "LimitExceededException", "ThrottlingException", "Throttling"}
ABOUT_US = {
    "AccountSuspendedException",
    "SendingPausedException",
    "MailFromDomainNotVerifiedException",
    "NotFoundException",
    "AccessDeniedException",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "ExpiredTokenException",
}


class Ses(Http):
    name: ClassVar[str] = "amazon_ses"
    backend: ClassVar[str] = "anymail.backends.amazon_ses.EmailBackend"
    holds: ClassVar[int] = 8

    def post(self, lane: Any, payloads: Sequence[Any], key: str) -> Any:
        [payload] = payloads
        payload.finalize_payload()
        return lane.client.send_email(**payload.params)

    def heard(self, response: Any, number: int) -> list[Answer]:
        return [Answer(Kind.ACCEPTED, provider_id=str(response.get("MessageId", ""))[:200])]

    def failed(self, error: Exception, number: int) -> list[Answer]:
        if not isinstance(error, ClientError):
            return super().failed(error, number)
        name = str(error.response.get("Error", {}).get("Code", ""))
        said = str(error.response.get("Error", {}).get("Message", "") or name)[:280]
        code = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if name in NOT_NOW or code == 429:
            wait = _("The mail provider wants no more just now: %(said)s") % {"said": said}
            return self.not_asked(NotOpen(wait), number)
        if name in ABOUT_US or code in (401, 403):
            refused = _("The mail provider does not accept our key: %(said)s") % {"said": said}
            return self.not_asked(SignInRefused(refused), number)
        kind = Kind.REFUSED if 400 <= code < 500 else Kind.IN_DOUBT
        return [Answer(kind, said, code or None)]

    def _lane(self) -> Any:
        if self._lanes:
            # One client for all: threads may share it, and each takes a moment to make.
            lane = import_string(self.backend)()
            lane.client = self._lanes[0].client
            return lane
        lane = super()._lane()
        # boto tries again by itself, five times, whatever became of the first: every one of them may be a mail.
        once = Config(
            retries={"total_max_attempts": 1},
            connect_timeout=settings.EMAIL_TIMEOUT,
            read_timeout=settings.EMAIL_TIMEOUT,
        )
        lane.close()
        lane.client_params = {
            **lane.client_params,
            "config": lane.client_params.get("config", Config()).merge(once),
        }
        lane.open()
        return lane
