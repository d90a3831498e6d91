"""What the five providers post: their own examples, about a delivery of ours, signed as they sign."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.test import Client
from django.urls import reverse

from messaging.models import Delivery

SIGNING = "c2lnbmluZy1zZWNyZXQtb2YtcmVzZW5k"
SECRETS = {
    "RESEND_SIGNING_SECRET": f"whsec_{SIGNING}",
    "MAILGUN_WEBHOOK_SIGNING_KEY": "key-of-mailgun",
    "WEBHOOK_SECRET": "events:a-long-secret",
}
BASIC = "Basic " + base64.b64encode(b"events:a-long-secret").decode()


@dataclass(frozen=True)
class Post:
    """One request of a provider's."""

    provider: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"

    def to(self, client: Client, **changed: str) -> Any:
        # Not `post`: that would encode the body anew.
        return client.generic(
            "POST",
            reverse("messaging:provider_events", args=[self.provider]),
            self.body,
            self.content_type,
            headers={**self.headers, **changed},
        )


def resend(event: str, delivery: Delivery, now: datetime, /, *, number: int = 1, **changed: Any) -> Post:
    types = {
        "accepted": "email.sent",
        "delivered": "email.delivered",
        "bounced": "email.bounced",
        "soft": "email.bounced",
        "complained": "email.complained",
        "refused": "email.suppressed",
        "opened": "email.opened",
    }
    data: dict[str, Any] = {
        "created_at": "2026-11-21 11:58:40.513996+00",
        "email_id": "56761188-7520-42d8-8898-ff6fc54ce618",
        "from": "Ana's Forge <mail@localhost>",
        "to": [delivery.address_key],
        "subject": "The dragon is here",
        "headers": [{"name": "X-Metadata", "value": json.dumps({"delivery": str(delivery.pk)})}],
    }
    if event in ("bounced", "soft"):
        data["bounce"] = {
            "message": "The recipient's email provider sent a hard bounce message, but didn't specify the reason "
            "for the hard bounce.",
            "subType": "General",
            "type": "Permanent" if event == "bounced" else "Transient",
        }
    body = {"created_at": "2026-11-21T11:59:00.000Z", "data": data, "type": types[event], **changed}
    return signed_by_svix(json.dumps(body).encode(), now, name=f"msg_{event}_{delivery.pk}_{number}")


def signed_by_svix(body: bytes, now: datetime, *, name: str = "msg_1", secret: str = SIGNING) -> Post:
    stamp = str(int(now.timestamp()))
    mac = hmac.digest(base64.b64decode(secret), f"{name}.{stamp}.".encode() + body, hashlib.sha256)
    signature = f"v1,{base64.b64encode(mac).decode()}"
    return Post("resend", body, {"svix-id": name, "svix-timestamp": stamp, "svix-signature": signature})


def postmark(event: str, delivery: Delivery, now: datetime, /, *, number: int = 1, **changed: Any) -> Post:
    body: dict[str, Any] = {
        "MessageID": "883953f4-6105-42a2-a16a-77a8eac79483",
        "Recipient": delivery.address_key,
        "Metadata": {"delivery": str(delivery.pk)},
        "ServerID": 23,
        "MessageStream": "broadcast",
        "Tag": "release",
    }
    if event == "delivered":
        body |= {
            "RecordType": "Delivery",
            "DeliveredAt": "2026-11-21T06:59:00-05:00",
            "Details": f"Test {number}",
        }
    elif event == "opened":
        body |= {"RecordType": "Open", "FirstOpen": True, "ReceivedAt": "2026-11-21T11:59:00Z"}
    else:
        types = {
            "bounced": ("Bounce", "HardBounce", 1),
            "soft": ("Bounce", "SoftBounce", 4096),
            "accepted": ("Bounce", "Transient", 2),
            "refused": ("Bounce", "Blocked", 100006),
            "complained": ("SpamComplaint", "SpamComplaint", 100001),
        }
        record, kind, code = types[event]
        body |= {
            "RecordType": record,
            "ID": 4323372036854770000 + delivery.pk * 100 + code % 97 + 10_000_000 * number,
            "Type": kind,
            "TypeCode": code,
            "Email": delivery.address_key,
            "BouncedAt": "2026-11-21T06:59:00-05:00",
            "Description": "The server was unable to deliver your message (ex: unknown user, mailbox not found).",
            "Details": "smtp;550 5.1.1 The email account that you tried to reach does not exist.",
            "Inactive": True,
            "CanActivate": True,
        }
    return Post("postmark", json.dumps(body | changed).encode(), {"Authorization": BASIC})


def mailgun(event: str, delivery: Delivery, now: datetime, /, *, number: int = 1, **changed: Any) -> Post:
    names = {"accepted": "failed", "soft": "failed", "bounced": "failed", "refused": "rejected"}
    data: dict[str, Any] = {
        "id": "DACSsAdVSeGpLid7TN03WA",
        "event": names.get(event, event),
        "timestamp": now.timestamp() - 60,
        "recipient": delivery.address_key,
        "recipient-domain": "example.net",
        "message": {"headers": {"to": delivery.address_key, "message-id": message_id(delivery)[1:-1]}},
        "user-variables": {"delivery": str(delivery.pk)},
        "tags": ["release"],
        "log-level": "info",
    }
    if event in ("bounced", "soft", "accepted"):
        data |= {
            "severity": "permanent" if event == "bounced" else "temporary",
            "reason": "bounce",
            "delivery-status": {
                "attempt-no": 1,
                "code": 550,
                "description": "",
                "message": "5.1.1 The email account that you tried to reach does not exist.",
            },
        }
    if event == "refused":
        data["reject"] = {"reason": "Sandbox subdomains are for test purposes only.", "description": ""}
    return signed_by_mailgun(
        {"event-data": {**data, **changed}}, now, token=f"{delivery.pk}-{event}-{number}"
    )


def signed_by_mailgun(body: Any, now: datetime, *, token: str = "t", key: str = "key-of-mailgun") -> Post:
    stamp = str(int(now.timestamp()))
    signature = hmac.new(key.encode(), f"{stamp}{token}".encode(), hashlib.sha256).hexdigest()
    block = {"timestamp": stamp, "token": token, "signature": signature}
    return Post("mailgun", json.dumps({"signature": block, **body}).encode())


def amazon_ses(event: str, delivery: Delivery, now: datetime, /, *, number: int = 1, **changed: Any) -> Post:
    address = delivery.address_key
    parts: dict[str, tuple[str, dict[str, Any]]] = {
        "accepted": ("Send", {}),
        "delivered": ("Delivery", {"recipients": [address], "smtpResponse": "250 2.6.0 Message received"}),
        "bounced": (
            "Bounce",
            {
                "bounceType": "Permanent",
                "bounceSubType": "General",
                "bouncedRecipients": [
                    {"emailAddress": address, "status": "5.1.1", "diagnosticCode": "smtp; 550 5.1.1 unknown"}
                ],
            },
        ),
        "soft": (
            "Bounce",
            {
                "bounceType": "Transient",
                "bounceSubType": "General",
                "bouncedRecipients": [{"emailAddress": address}],
            },
        ),
        "complained": (
            "Complaint",
            {"complainedRecipients": [{"emailAddress": address}], "complaintFeedbackType": "abuse"},
        ),
        "refused": ("Reject", {"reason": "Bad content"}),
        "opened": ("Open", {"ipAddress": "192.0.2.1", "timestamp": "2026-11-21T11:59:00.000Z"}),
    }
    name, details = parts[event]
    told = {
        "eventType": name,
        "mail": {
            "timestamp": "2026-11-21T11:58:00.000Z",
            "source": "mail@localhost",
            "messageId": "0000014644fe5ef6-9a483358-9170-4cb4-a269-f5dcdf415321-000000",
            "destination": [address],
            "headers": [
                {"name": "X-Metadata", "value": json.dumps({"delivery": str(delivery.pk)})},
                {"name": "Message-ID", "value": message_id(delivery)},
            ],
        },
        name.lower(): details,
        **changed,
    }
    return by_sns(json.dumps(told), name=f"22b80b92-{delivery.pk}-{event}-{number}")


def by_sns(message: str, *, name: str = "22b80b92", kind: str = "Notification", **changed: Any) -> Post:
    body = {
        "Type": kind,
        "MessageId": name,
        "TopicArn": "arn:aws:sns:us-west-2:123456789012:MyTopic",
        "Subject": "Amazon SES Email Event Notification",
        "Message": message,
        "Timestamp": "2026-11-21T11:59:00.000Z",
        "SignatureVersion": "1",
        "Signature": "EXAMPLEw6JRN",
        "SigningCertURL": "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-f3ec.pem",
        **changed,
    }
    headers = {
        "x-amz-sns-message-type": kind,
        "x-amz-sns-message-id": name,
        "Authorization": BASIC,
        "User-Agent": "Amazon Simple Notification Service Agent",
    }
    return Post("amazon_ses", json.dumps(body).encode(), headers, "text/plain; charset=UTF-8")


def brevo(event: str, delivery: Delivery, now: datetime, /, *, number: int = 1, **changed: Any) -> Post:
    return Post(
        "brevo", json.dumps(of_brevo(event, delivery, now, number=number, **changed)).encode(), AS_BREVO
    )


AS_BREVO = {"Authorization": BASIC}


def of_brevo(
    event: str, delivery: Delivery, now: datetime, /, *, number: int = 1, **changed: Any
) -> dict[str, Any]:
    names = {
        "accepted": "request",
        "bounced": "hard_bounce",
        "soft": "soft_bounce",
        "complained": "spam",
        "refused": "blocked",
        "opened": "unique_opened",
    }
    return {
        "event": names.get(event, event),
        "email": delivery.address_key,
        "id": 26224 + number,
        "date": "2026-11-21 12:59:00",
        "ts": int(now.timestamp() - 60),
        "message-id": "<201801311941.01814@smtp-relay.mailin.fr>",
        "ts_epoch": int(now.timestamp() - 60) * 1000,
        "template_id": 22,
        "X-Mailin-custom": json.dumps({"delivery": str(delivery.pk)}),
        "subject": "The dragon is here",
        "reason": "550 5.1.1 mailbox unavailable" if event == "bounced" else "",
        **changed,
    }


def message_id(delivery: Delivery) -> str:
    request = delivery.message.request_id
    assert request is not None
    return f"<{delivery.pk}.{request.hex}@testserver>"


ProviderPost = Callable[..., Post]
PROVIDERS: dict[str, ProviderPost] = {
    "resend": resend,
    "postmark": postmark,
    "mailgun": mailgun,
    "amazon_ses": amazon_ses,
    "brevo": brevo,
}
