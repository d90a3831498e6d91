"""What mail providers tell of our mails: proved to come from them first, then read by anymail.

anymail checks Mailgun's signature and the shared secret, and knows where each provider writes what; what it means is in
`meanings`. Not taken over: its signals
(a view calls a service here), its Resend signature (it wants a package for ten lines) and its way of confirming a
topic of Amazon's (it wants our keys to Amazon). No signature of a topic's messages is checked: the shared secret is.
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parseaddr
from typing import Any
from urllib.parse import urlsplit

import requests
from anymail.exceptions import AnymailWebhookValidationFailure
from anymail.signals import AnymailTrackingEvent
from anymail.utils import get_request_basic_auth
from django.conf import settings
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare
from django.utils.dateparse import parse_datetime
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from accounts.addresses import AddressRefused, address_key
from messaging.models import ProviderEvent
from messaging.providers.meanings import KINDS, meaning_at

# A name and a password for all who sign nothing (https://anymail.dev/en/stable/tips/securing_webhooks/).
SHARED = "WEBHOOK_SECRET"
MOST_EVENTS = 1000
# A signature is good for so long: Resend signs every attempt anew, Mailgun repeats the first one for eight hours.
RESEND_PATIENCE = timedelta(minutes=5)
MAILGUN_PATIENCE = timedelta(hours=12)
CLOCKS_DIFFER = timedelta(minutes=5)
# One service of Amazon's and nothing beside it: anybody may have a bucket whose name ends in amazonaws.com.
_SNS = re.compile(r"sns\.[a-z0-9-]{1,40}\.amazonaws\.com(\.cn)?")
SNS_SECONDS = 5
# Our Message-ID: a delivery's id and its message's request id, which is random.
_OUR_MESSAGE_ID = re.compile(r"(?<![\w.-])(\d{1,19})\.([0-9a-f]{32})@")
_LARGEST_ID = 2**63 - 1


class HookRefused(Exception):
    """What was posted is not taken. `str()` says why, to whoever posted it."""

    status = 400


class NotAsked(HookRefused):
    """No name and password came along; whoever has them gives them when asked."""

    status = 401


class NotProved(HookRefused):
    """It does not come from the provider, or not now."""

    status = 403


class TooMuch(HookRefused):
    status = 413


class NotConfirmed(HookRefused):
    """Amazon did not answer; it asks again later."""

    status = 503


@dataclass(frozen=True)
class Told:
    """One thing that a provider says about one mail."""

    # The same whenever it is said again.
    event_id: str
    kind: ProviderEvent.Kind
    at: datetime | None
    # A key; empty if it names none.
    address: str
    # Which delivery it says it is about, and the proof of it if it says so by our Message-ID.
    delivery: int | None
    request: str
    said: str
    raw: str


@dataclass(frozen=True)
class Hook:
    """How one provider is heard."""

    # The setting of anymail's without which it is not heard at all.
    secret: str
    view: str
    # What it says of a mail, as `meanings` has it, and what the receiving side replied, if it tells that; the second
    # argument is whom the event is about.
    word: Callable[[dict[str, Any]], str]
    reply: Callable[[dict[str, Any], str], str]

    @property
    def configured(self) -> bool:
        return bool(settings.ANYMAIL.get(self.secret))


def _amazons_word(event: dict[str, Any]) -> str:
    name = str(event.get("eventType") or event.get("notificationType"))
    if name == "Bounce":
        return f"{name}/{event['bounce'].get('bounceType')}/{event['bounce'].get('bounceSubType')}"
    if name == "Complaint":
        told = event["complaint"]
        return f"{name}/{told.get('complaintSubType') or told.get('complaintFeedbackType')}"
    return name


def _amazons_reply(event: dict[str, Any], recipient: str) -> str:
    told = event.get("bounce", {}).get("bouncedRecipients", [])
    theirs = [one for one in told if one["emailAddress"] == recipient]
    return " ".join(str(one.get(name) or "") for one in theirs for name in ("status", "diagnosticCode"))


def _amazons_moment(event: AnymailTrackingEvent) -> datetime | None:
    """When it happened: anymail only knows when the topic told it, which may be a day later, and again."""
    name = event.esp_event.get("eventType") or event.esp_event.get("notificationType")
    told = event.esp_event.get(str(name).lower())
    happened = None
    with suppress(ValueError):
        happened = parse_datetime(str(told.get("timestamp"))) if isinstance(told, dict) else None
    at: datetime | None = happened or event.timestamp
    return at


def _resends_word(event: dict[str, Any]) -> str:
    bounce = event["data"]["bounce"] if event["type"] == "email.bounced" else {}
    parts = (event["type"], bounce.get("type"), bounce.get("subType"))
    return "/".join(str(part) for part in parts if part)


def _resends_reply(event: dict[str, Any], _recipient: str) -> str:
    bounce = event["data"].get("bounce") or {}
    return f"{bounce.get('diagnosticCode') or ''} {bounce.get('message') or ''}"


def _mailguns_word(event: dict[str, Any]) -> str:
    told = event["event-data"]
    parts = (told["event"], told.get("severity"), told.get("reason"))
    return "/".join(str(part) for part in parts if part)


def _mailguns_reply(event: dict[str, Any], _recipient: str) -> str:
    status = event["event-data"].get("delivery-status") or {}
    return " ".join(
        str(status.get(name) or "") for name in ("code", "enhanced-code", "message", "description")
    )


def _postmarks_word(event: dict[str, Any]) -> str:
    record = event.get("RecordType")
    if record == "SubscriptionChange":
        return (
            f"{record}/{event.get('SuppressionReason')}"
            if event.get("SuppressSending", True)
            else str(record)
        )
    return f"{record}/{event.get('Type')}"


HOOKS = {
    "resend": Hook(
        "RESEND_SIGNING_SECRET",
        "anymail.webhooks.resend.ResendTrackingWebhookView",
        _resends_word,
        _resends_reply,
    ),
    "postmark": Hook(
        SHARED,
        "anymail.webhooks.postmark.PostmarkTrackingWebhookView",
        _postmarks_word,
        lambda event, _recipient: str(event.get("Details") or ""),
    ),
    "mailgun": Hook(
        "MAILGUN_WEBHOOK_SIGNING_KEY",
        "anymail.webhooks.mailgun.MailgunTrackingWebhookView",
        _mailguns_word,
        _mailguns_reply,
    ),
    "amazon_ses": Hook(
        SHARED,
        "anymail.webhooks.amazon_ses.AmazonSESTrackingWebhookView",
        _amazons_word,
        _amazons_reply,
    ),
    "brevo": Hook(
        SHARED,
        "anymail.webhooks.brevo.BrevoTrackingWebhookView",
        lambda event: str(event.get("event")),
        lambda event, _recipient: str(event.get("reason") or ""),
    ),
}


def prove_name(provider: str, request: HttpRequest) -> None:
    """Whoever posts knows the shared secret, where nothing is signed; nothing else was read. Raises `HookRefused`.

    Signatures are over what was posted: `hear` checks those.
    """
    if HOOKS[provider].secret != SHARED:
        return
    given = get_request_basic_auth(request)
    if given is None:
        raise NotAsked(_("Give the name and the password that were agreed on."))
    if not constant_time_compare(given, settings.ANYMAIL[SHARED]):
        raise NotProved(_("This is not the name and the password that were agreed on."))


def hear(provider: str, request: HttpRequest, *, now: datetime) -> list[Told]:
    """What `request` tells, once it is proved to come from `provider`. Its body fits into memory. Raises `HookRefused`.

    Twice: the same ids. A topic of Amazon's that wants to be confirmed is confirmed, and tells nothing.
    """
    try:
        if provider == "resend":
            _prove_resend(request, now)
        view = _view(provider)
        if provider != "resend":
            view.run_validators(request)
        if provider == "mailgun":
            _prove_recent(request, now)
        if (
            provider == "amazon_ses"
            and view._parse_sns_message(request)["Type"] == "SubscriptionConfirmation"
        ):
            _confirm_topic(view._parse_sns_message(request))
            return []
        events = _events(provider, view, request)
        if len(events) > MOST_EVENTS:
            raise TooMuch(_("At most %(most)s events at once.") % {"most": MOST_EVENTS})
        return [_told(provider, event, at if len(events) > 1 else None) for at, event in enumerate(events)]
    except HookRefused:
        raise
    except AnymailWebhookValidationFailure as error:
        raise NotProved(_("This is not signed by the provider.")) from error
    except Exception as error:
        # anymail reads what it expects; whatever else is in a body ends in any exception there is.
        raise HookRefused(_("This cannot be read as events of the provider.")) from error


def _view(provider: str) -> Any:
    kind = import_string(HOOKS[provider].view)
    if provider == "resend":
        # Without its __init__, which wants a package to check what is checked here.
        return kind.__new__(kind)
    if provider == "amazon_ses":
        return kind(auto_confirm_sns_subscriptions=False)
    # Who signs needs no secret beside it.
    return kind() if HOOKS[provider].secret == SHARED else kind(webhook_secret=None)


def _prove_resend(request: HttpRequest, now: datetime) -> None:
    """Svix's signature: over the id, the time and the body (https://docs.svix.com/receiving/verifying-payloads/how-manual)."""
    name, stamp = request.headers.get("svix-id", ""), request.headers.get("svix-timestamp", "")
    key = base64.b64decode(settings.ANYMAIL["RESEND_SIGNING_SECRET"].removeprefix("whsec_"))
    mac = hmac.digest(key, f"{name}.{stamp}.".encode() + request.body, hashlib.sha256)
    good = f"v1,{base64.b64encode(mac).decode()}"
    # Several while the secret is being changed.
    given = request.headers.get("svix-signature", "").split(" ")
    if not any(constant_time_compare(one, good) for one in given):
        raise NotProved(_("This is not signed by the provider."))
    _in_time(stamp, now, RESEND_PATIENCE)


def _prove_recent(request: HttpRequest, now: datetime) -> None:
    """Mailgun signs a time and a number used once, and not the event: an old pair must open nothing."""
    if request.content_type != "application/json":
        raise HookRefused(_("Events come as JSON here."))
    _in_time(str(json.loads(request.body)["signature"]["timestamp"]), now, MAILGUN_PATIENCE)


def _in_time(stamp: str, now: datetime, patience: timedelta) -> None:
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) < 12):
        raise NotProved(_("This does not say when it was signed."))
    age = now.timestamp() - int(stamp)
    if not -CLOCKS_DIFFER.total_seconds() <= age <= patience.total_seconds():
        raise NotProved(_("This was not signed just now."))


def _confirm_topic(message: dict[str, Any]) -> None:
    """Amazon knows that the topic may post here: one request to Amazon's own service, wherever the body points."""
    link = urlsplit(message["SubscribeURL"])
    if link.scheme != "https" or link.netloc != link.hostname or not _SNS.fullmatch(link.netloc):
        raise HookRefused(_("That is not where Amazon confirms a topic."))
    try:
        with requests.get(
            message["SubscribeURL"], allow_redirects=False, timeout=SNS_SECONDS, stream=True
        ) as answer:
            confirmed = answer.status_code == 200
    except requests.RequestException:
        confirmed = False
    if not confirmed:
        raise NotConfirmed(_("Amazon did not confirm the topic."))


def _events(provider: str, view: Any, request: HttpRequest) -> list[AnymailTrackingEvent]:
    if provider == "brevo":
        # anymail reads them one by one; Brevo can be asked to post many together.
        body = json.loads(request.body.decode())
        items = body if isinstance(body, list) else [body]
        if len(items) > MOST_EVENTS:
            raise TooMuch(_("At most %(most)s events at once.") % {"most": MOST_EVENTS})
        return [view.esp_to_anymail_event(item) for item in items]
    return list(view.parse_events(request))


def _told(provider: str, event: AnymailTrackingEvent, place: int | None) -> Told:
    # Escaped, so that neither a NUL nor half a character reaches the database.
    raw = json.dumps(event.esp_event, sort_keys=True)
    delivery, request = _about(event, raw)
    try:
        # Amazon repeats what stood in the mail, which may have a name before it.
        address = address_key(parseaddr(_clean(event.recipient, 1000))[1])
    except AddressRefused:
        address = ""
    hook = HOOKS[provider]
    meaning = meaning_at(
        provider, hook.word(event.esp_event), hook.reply(event.esp_event, event.recipient or "")
    )
    said = " ".join(_clean(part, 300) for part in (event.description, event.mta_response) if part)
    return Told(
        event_id=_event_id(event, raw, place),
        kind=KINDS[meaning],
        at=_amazons_moment(event) if provider == "amazon_ses" else event.timestamp,
        address=address,
        delivery=delivery,
        request=request,
        said=said[:300] or str(meaning.label),
        raw=raw,
    )


def _event_id(event: AnymailTrackingEvent, raw: str, place: int | None) -> str:
    """The provider's own, with the place of one that shares it with others; or else what was said."""
    given = _clean(event.event_id, 10_000)
    if not given:
        return hashlib.sha256(raw.encode()).hexdigest()
    given = given if place is None else f"{given}:{place}"
    return given if len(given) <= 200 else hashlib.sha256(given.encode()).hexdigest()


def _about(event: AnymailTrackingEvent, raw: str) -> tuple[int | None, str]:
    """The delivery that our own mark in the mail names, or the one in our Message-ID with its proof."""
    marks = event.metadata if isinstance(event.metadata, dict) else {}
    mark = str(marks.get("delivery", ""))
    if mark.isascii() and mark.isdigit() and len(mark) < 20 and int(mark) <= _LARGEST_ID:
        return int(mark), ""
    found = _OUR_MESSAGE_ID.search(raw)
    if found and int(found[1]) <= _LARGEST_ID:
        return int(found[1]), found[2]
    return None, ""


def _clean(value: object, length: int) -> str:
    """`value` as a line of text that every database takes."""
    if not isinstance(value, str | int):
        return ""
    text = str(value)[:length].replace("\x00", "")
    return " ".join(text.encode("utf-8", "replace").decode().split())
