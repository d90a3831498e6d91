"""The slow way to make a mail: what the fast one must equal, octet for octet.

Everything anew for each recipient, with nothing but real values: the words with their placeholders, the Django
templates, the CSS, the MIME parts by Python's `email`. About 5 ms a mail instead of some microseconds.
"""

import quopri
import re
from datetime import UTC
from email.generator import BytesGenerator
from email.header import Header
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart
from email.policy import compat32
from email.utils import format_datetime
from html import escape
from io import BytesIO
from typing import Any

from django.conf import settings
from django.template.loader import render_to_string

from messaging.mail import Recipient, display_name
from messaging.mail.encoding import tame_subject, without_blank_runs
from messaging.mail.mailing import INLINER, LISTED, and_more, frame_of
from messaging.models import Message
from messaging.words import clean_source, tame, tame_name, to_html, to_text


def slow_mail(message: Message, recipient: Recipient) -> bytes:
    """The mail as it goes over SMTP."""
    context = _context(message, recipient)
    body = clean_source(message.body)
    values = _values(message, recipient)
    text = render_to_string("emails/release.txt", {**context, "words": _put(to_text, body, values, str)})
    words = _put(to_html, body, values, lambda value: escape(value, quote=False))
    html = INLINER.inline(render_to_string("emails/release.html", {**context, "words": words}))
    mail = MIMEMultipart("alternative", boundary=f"=_largesse_{_key(message)}")
    content_type = mail["Content-Type"]
    for name in list(mail.keys()):
        del mail[name]
    for name, value in _headers(message, recipient, content_type, _subject(message, values)):
        mail[name] = value
    for kind, part in (("plain", text), ("html", html)):
        mail.attach(_part(kind, without_blank_runs(part)))
    out = BytesIO()
    # Header lines are not folded: what needs it has been.
    policy = compat32.clone(linesep="\r\n", max_line_length=0)
    BytesGenerator(out, mangle_from_=False, policy=policy).flatten(mail)
    return out.getvalue()


def _part(kind: str, text: str) -> MIMENonMultipart:
    part = MIMENonMultipart("text", kind)
    del part["MIME-Version"]
    del part["Content-Type"]
    part["Content-Type"] = f"text/{kind}; charset=utf-8"
    part["Content-Transfer-Encoding"] = "quoted-printable"
    part.set_payload(quopri.encodestring(text.encode()).decode("ascii"))
    return part


def _headers(
    message: Message, recipient: Recipient, content_type: str, subject: str
) -> list[tuple[str, str]]:
    creator, host = message.release.creator, settings.SITE_URL.partition("://")[2].partition(":")[0]
    shown, sender = display_name(creator.name), settings.MAIL_FROM
    coded = f'"{shown}"' if shown.isascii() else f"{_coded('From', shown)}\n"
    plain = subject.isascii() and "=?" not in subject and len(subject) < 900
    kind = {"announcement": "release"}.get(message.kind, message.kind)
    return [
        ("From", f"{coded} <{sender}>"),
        ("Reply-To", creator.reply_to),
        ("MIME-Version", "1.0"),
        ("Content-Type", content_type),
        ("To", recipient.address),
        ("Subject", subject if plain else _coded("Subject", subject)),
        ("Date", format_datetime(recipient.date.astimezone(UTC))),
        ("Message-ID", f"<{recipient.delivery}.{_key(message)}@{host}>"),
        ("List-Unsubscribe", f"<{recipient.unsubscribe_url}>"),
        ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
        ("List-Id", f"<{creator.slug}.{host}>"),
        ("Feedback-ID", f"release-{message.release_id}:{creator.slug}:{kind}:{host}"),
        ("Auto-Submitted", "auto-generated"),
        ("X-Auto-Response-Suppress", "All"),
    ]


def _coded(name: str, value: str) -> str:
    return Header(value, "utf-8", header_name=name, maxlinelen=76).encode()


def _context(message: Message, recipient: Recipient) -> dict[str, Any]:
    listed, more = recipient.also[:LISTED], len(recipient.also) - LISTED
    return {
        **frame_of(message),
        "redeem_url": recipient.redeem_url,
        "preferences_url": recipient.preferences_url,
        "unsubscribe_url": recipient.unsubscribe_url,
        "why_url": recipient.why_url,
        "address": recipient.address,
        "group": tame(recipient.group) or tame(message.release.creator.name),
        "also": listed,
        "also_more": and_more(more) if more > 0 else "",
    }


def _values(message: Message, recipient: Recipient) -> dict[str, str]:
    name = tame_name(recipient.name)
    return {
        "name": name,
        "first_name": name.partition(" ")[0],
        "creator": tame(message.release.creator.name),
        "release": tame(str(message.release)),
        "group": tame(recipient.group),
    }


def _subject(message: Message, values: dict[str, str]) -> str:
    return tame_subject(_put(str, tame_subject(message.subject), values, str))


def _put(render: Any, source: str, values: dict[str, str], encode: Any) -> str:
    """`source` rendered, with a word that nothing can mean anything to in each value's place until it is."""
    found: list[str] = []

    def keep(match: re.Match[str]) -> str:
        name, _bar, fallback = match[1].partition("|")
        usual = "friend" if name in {"name", "first_name"} else ""
        found.append(values[name] or tame(fallback) or usual)
        return f"QZQ{len(found) - 1:04d}QZQ"

    rendered = render(re.sub(r"\{([^{}\n]*)\}", keep, source))
    return re.sub(r"QZQ(\d{4})QZQ", lambda match: encode(found[int(match[1])]), rendered)


def _key(message: Message) -> str:
    return message.request_id.hex if message.request_id else "preview"
