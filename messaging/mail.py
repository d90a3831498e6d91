"""One message as mails: rendered once, then only the values change.

A Django template and CSS inlining cost milliseconds, MIME by `email` another; a million times that is an hour. So
the parts are rendered once a message with slots in them, and encoded once line by line. For each mail only the few
lines that hold a slot are encoded again: a line's encoding depends on nothing but the line.
"""

import binascii
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.header import Header
from email.utils import format_datetime, parseaddr
from functools import cache, cached_property
from html import escape
from urllib.parse import urlsplit

import css_inline
from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.defaultfilters import filesizeformat
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.translation import gettext as _

from distribution.audience import reached_groups
from distribution.models import Release
from distribution.tickets import issue_ticket
from groups.models import Contact, Creator, Membership
from messaging.contents import contents_of
from messaging.models import Message
from messaging.tokens import preferences_token
from messaging.words import (
    Slots,
    WordsRefused,
    clean_source,
    fill,
    read_placeholders,
    split_at_slots,
    tame,
    tame_name,
    to_html,
    to_text,
)

# Gmail cuts a mail at 102 kB, and with it the link that unsubscribes.
LARGEST_HTML = 80_000
LISTED = 12

_INLINER = css_inline.CSSInliner(keep_style_tags=False, keep_at_rules=True, load_remote_stylesheets=False)
_UNSAFE_IN_NAMES = re.compile(r'[<>@:,"\\()\[\];]|=\?')


@dataclass(frozen=True)
class Recipient:
    """What one mail needs to know."""

    address: str
    name: str
    group: str
    redeem_url: str
    preferences_url: str
    unsubscribe_url: str
    # What makes its Message-ID this one's.
    delivery: object
    date: datetime


@dataclass(frozen=True)
class Mail:
    """One mail to one address, ready in every form a provider may want."""

    mailing: "Mailing"
    recipient: Recipient

    @cached_property
    def _values(self) -> list[str]:
        name = tame_name(self.recipient.name)
        return self.mailing.slots.values(
            {
                "name": name,
                "first_name": name.partition(" ")[0],
                "group": tame(self.recipient.group),
                "address": self.recipient.address,
                "redeem_url": self.recipient.redeem_url,
                "preferences_url": self.recipient.preferences_url,
                "unsubscribe_url": self.recipient.unsubscribe_url,
            }
        )

    @property
    def sender(self) -> str:
        """The address bounces go to."""
        return self.mailing.envelope_from

    @property
    def address(self) -> str:
        return self.recipient.address

    @property
    def subject(self) -> str:
        return tame_subject(fill(self.mailing.subject, self._values))

    @property
    def text(self) -> str:
        return fill(self.mailing.text, self._values)

    @property
    def html(self) -> str:
        return fill(self.mailing.html, self._values, escape)

    @property
    def headers(self) -> dict[str, str]:
        """Everything but From, To, Reply-To, Subject and what MIME needs."""
        return {
            "Date": format_datetime(self.recipient.date.astimezone(UTC)),
            "Message-ID": self.mailing.message_id(self.recipient.delivery),
            "List-Unsubscribe": f"<{self.recipient.unsubscribe_url}>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
            **self.mailing.headers,
        }

    @property
    def raw(self) -> bytes:
        """The mail as it goes over SMTP: CRLF line ends, 7 bits, no line over 998 octets."""
        own = [
            ("To", self.recipient.address),
            ("Subject", encode_header("Subject", self.subject)),
            *self.headers.items(),
        ]
        head = "".join(f"{name}: {value}\r\n" for name, value in own)
        values = self._values
        return b"".join(
            (
                self.mailing.head,
                head.encode("ascii"),
                self.mailing.before_text,
                self.mailing.text_lines.encode(values),
                self.mailing.before_html,
                self.mailing.html_lines.encode(values),
                self.mailing.after_html,
            )
        )

    def for_backend(self) -> EmailMultiAlternatives:
        """The same mail for a Django or anymail backend."""
        mail = EmailMultiAlternatives(
            subject=self.subject,
            body=self.text,
            from_email=self.mailing.shown_from,
            to=[self.recipient.address],
            reply_to=[self.mailing.reply_to],
            headers=self.headers,
        )
        mail.attach_alternative(self.html, "text/html")
        return mail


class Mailing:
    """A message rendered once, with slots for what differs from mail to mail. Raises `WordsRefused`."""

    def __init__(self, message: Message) -> None:
        self.message = message
        release = message.release
        creator = release.creator
        self.slots = Slots()
        fixed = {"creator": tame(creator.name), "release": tame(str(release))}
        self.subject = self._with_fixed(
            read_placeholders(tame_subject(message.subject), self.slots), fixed, encode=str
        )
        body = read_placeholders(clean_source(message.body), self.slots)
        contents = contents_of(release)
        place = clean_source(creator.postal_address)
        context = {
            "creator": {"name": clean_source(creator.name)},
            "release": clean_source(str(release)),
            "contents": contents[:LISTED],
            "more": len(contents[LISTED:]),
            "site_name": settings.SITE_NAME,
            "site_url": settings.SITE_URL,
            "postal_address": [line.strip() for line in place.splitlines() if line.strip()],
            **{
                name: self.slots.mark(name)
                for name in ("redeem_url", "preferences_url", "unsubscribe_url", "address", "group")
            },
        }
        text = render_to_string("emails/release.txt", {**context, "words": to_text(body)})
        html = _INLINER.inline(render_to_string("emails/release.html", {**context, "words": to_html(body)}))
        self.text = self._with_fixed(_no_blank_runs(text), fixed, encode=str)
        self.html = self._with_fixed(_no_blank_runs(html), fixed, encode=escape)
        if len(self.html.encode()) > LARGEST_HTML:
            raise WordsRefused(
                _("With these words the mail has %(size)s; many mail programs cut it off. Make them shorter.")
                % {"size": filesizeformat(len(self.html.encode()))}
            )
        self._address(message, creator)

    def to(self, recipient: Recipient) -> Mail:
        return Mail(self, recipient)

    def message_id(self, of: object) -> str:
        """The same on every attempt, and nobody else's: the request id is random."""
        return f"<{of}.{self._key}@{_host()}>"

    def _with_fixed(self, text: str, fixed: dict[str, str], *, encode: Callable[[str], str]) -> str:
        return fill(text, self.slots.fixed(fixed), encode)

    def _address(self, message: Message, creator: Creator) -> None:
        """The headers and the MIME frame that every mail of the message shares."""
        self.envelope_from = parseaddr(settings.MAIL_FROM)[1]
        # From our own domain, which we may sign for; answers go to the creator.
        shown = display_name(creator.name)
        self.shown_from = f'"{shown}" <{self.envelope_from}>'
        coded = f'"{shown}"' if shown.isascii() else encode_header("From", shown)
        self.reply_to = creator.reply_to
        host = _host()
        self.headers = {
            "List-Id": f"<{creator.slug}.{host}>",
            "Feedback-ID": f"release-{message.release_id}:{creator.slug}:release:{host}",
            "Auto-Submitted": "auto-generated",
            "X-Auto-Response-Suppress": "All",
        }
        self._key = message.request_id.hex if message.request_id else "preview"
        boundary = f"=_largesse_{self._key}"
        self.head = (
            f"From: {coded} <{self.envelope_from}>\r\nReply-To: {self.reply_to}\r\nMIME-Version: 1.0\r\n"
            f'Content-Type: multipart/alternative; boundary="{boundary}"\r\n'
        ).encode("ascii")
        part = (
            f"\r\n--{boundary}\r\nContent-Type: text/{{}}; charset=utf-8\r\n"
            "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
        )
        self.before_text, self.before_html = part.format("plain").encode(), part.format("html").encode()
        self.after_html = f"\r\n--{boundary}--\r\n".encode()
        self.text_lines = Lines(self.text, encode=str)
        self.html_lines = Lines(self.html, encode=escape)


class Lines:
    """A text in quoted-printable: lines without a slot are encoded already, the others wait for their values."""

    def __init__(self, text: str, *, encode: Callable[[str], str]) -> None:
        self._encode = encode
        self._parts: list[bytes | list[str]] = []
        ready: list[bytes] = []
        for line in text.removesuffix("\n").split("\n"):
            pieces = split_at_slots(line)
            if len(pieces) == 1:
                ready.append(encode_line(line))
                continue
            self._parts += [b"".join(ready), pieces]
            ready = []
        self._parts.append(b"".join(ready))

    def encode(self, values: Sequence[str]) -> bytes:
        return b"".join(
            part if isinstance(part, bytes) else encode_line(self._line(part, values)) for part in self._parts
        )

    def _line(self, pieces: list[str], values: Sequence[str]) -> str:
        return "".join(
            self._encode(values[int(piece)]) if at % 2 else piece for at, piece in enumerate(pieces)
        )


def encode_line(line: str) -> bytes:
    """One line in quoted-printable with its CRLF: at most 76 octets a line on the way."""
    return binascii.b2a_qp(line.encode(), istext=True).replace(b"=\n", b"=\r\n") + b"\r\n"


def encode_header(name: str, value: str) -> str:
    """An unstructured header's value: as it is if it is plain, otherwise in encoded words, folded."""
    if value.isascii() and "=?" not in value and len(value) < 900:
        return value
    return Header(value, "utf-8", header_name=name).encode(linesep="\r\n")


def display_name(name: str) -> str:
    """A creator's name as it may stand before an address: nothing in it can end the name or begin another."""
    return " ".join(_UNSAFE_IN_NAMES.sub(" ", tame(name)).split()) or settings.SITE_NAME


def tame_subject(subject: str) -> str:
    """One line without controls, up to the length that is stored."""
    return "".join(
        char for char in " ".join(subject.split()) if unicodedata.category(char) not in {"Cc", "Cs", "Co"}
    )


def links_of(contact_id: int, grant_id: int, generation: int) -> dict[str, str]:
    """Where the links in a contact's mail lead. From SITE_URL, never from a request."""
    token = preferences_token(contact_id)
    return {
        "redeem_url": _url("redeem", issue_ticket(grant_id, generation)),
        "preferences_url": _url("messaging:preferences", token),
        "unsubscribe_url": _url("messaging:unsubscribe", token),
    }


def _url(name: str, token: str) -> str:
    return f"{settings.SITE_URL}{_path(name) % token}"


@cache
def _path(name: str) -> str:
    """A page's path with a place for the token: looked up once, not for each of a million mails."""
    return reverse(name, args=["TOKEN"]).replace("TOKEN", "%s")


def sample_recipient(contact: Contact | None, *, group: str, now: datetime) -> Recipient:
    """A mail that is only looked at: its links lead to the front door."""
    return Recipient(
        address=contact.address_key if contact else "alex@example.org",
        name=contact.name if contact else "Alex Example",
        group=group,
        redeem_url=f"{settings.SITE_URL}/",
        preferences_url=f"{settings.SITE_URL}/",
        unsubscribe_url=f"{settings.SITE_URL}/",
        delivery=f"sample-{int(now.timestamp())}",
        date=now,
    )


def group_names(contacts: Iterable[int], release: Release, *, now: datetime) -> dict[int, str]:
    """By which group each contact gets the release: their own membership's name."""
    rows = (
        Membership.objects.live(now)
        .filter(contact__in=list(contacts), group__in=reached_groups(release))
        .select_related("group__parent")
        .order_by("-started_at", "-pk")
    )
    return {row.contact_id: str(row.group) for row in rows}


def _no_blank_runs(text: str) -> str:
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", text)).strip() + "\n"


def _host() -> str:
    return urlsplit(settings.SITE_URL).hostname or "localhost"
