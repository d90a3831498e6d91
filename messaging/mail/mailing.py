"""One message as mails.

A Django template and CSS inlining cost milliseconds, MIME by `email` another; a million times that is an hour. So
the parts are rendered once a message with slots in them, and encoded once line by line. For each mail only the few
lines that hold a slot are encoded again: a line's encoding depends on nothing but the line. The part that tells of
other releases is rendered once too, and stands there as often as a mail needs it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parseaddr
from functools import cached_property, lru_cache
from urllib.parse import urlsplit

import css_inline
from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.defaultfilters import filesizeformat
from django.template.loader import render_to_string
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from groups.models import Creator
from messaging.contents import contents_of
from messaging.mail.encoding import (
    Body,
    display_name,
    encode_header,
    in_html,
    mark_places,
    tame_subject,
    without_blank_runs,
)
from messaging.mail.recipients import Also, Recipient
from messaging.models import Message
from messaging.words import (
    Slots,
    WordsRefused,
    clean_source,
    fill,
    read_placeholders,
    tame,
    tame_name,
    to_html,
    to_text,
)

# Gmail cuts a mail at 102 kB, and with it the link that unsubscribes.
LARGEST_HTML = 80_000
LISTED = 12
# What an item's title, contents and link may add to the place they stand in, in octets.
LONGEST_ITEM = 500

# What mail systems count complaints by.
FEEDBACK = {
    Message.Kind.ANNOUNCEMENT: "release",
    Message.Kind.REMINDER: "reminder",
    Message.Kind.DIGEST: "digest",
}
INLINER = css_inline.CSSInliner(keep_style_tags=False, keep_at_rules=True, load_remote_stylesheets=False)


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
                "why_url": self.recipient.why_url,
                "more": and_more(len(self.recipient.also) - LISTED) if self._more else "",
            }
        )

    @cached_property
    def _items(self) -> list[list[str]]:
        return [self.mailing.slots.values(values_of(item)) for item in self.recipient.also[:LISTED]]

    @property
    def _more(self) -> bool:
        return len(self.recipient.also) > LISTED

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
        return self.mailing.text.read(self._values, self._items, more=self._more)

    @property
    def html(self) -> str:
        return self.mailing.html.read(self._values, self._items, more=self._more)

    @property
    def headers(self) -> dict[str, str]:
        """Everything but From, To, Reply-To, Subject and what MIME needs."""
        return {
            "Date": _date(self.recipient.date),
            "Message-ID": self.mailing.message_id(self.recipient.delivery),
            "List-Unsubscribe": f"<{self.recipient.unsubscribe_url}>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
            **self.mailing.headers,
        }

    @cached_property
    def raw(self) -> bytes:
        """The mail as it goes over SMTP: CRLF line ends, 7 bits, no line over 998 octets."""
        own = [
            ("To", self.recipient.address),
            ("Subject", encode_header("Subject", self.subject)),
            *self.headers.items(),
        ]
        head = "".join(f"{name}: {value}\r\n" for name, value in own)
        values, items, more = self._values, self._items, self._more
        return b"".join(
            (
                self.mailing.head,
                head.encode("ascii"),
                self.mailing.before_text,
                self.mailing.text.encode(values, items, more=more),
                self.mailing.before_html,
                self.mailing.html.encode(values, items, more=more),
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
        marks = mark_places(self.slots)
        context = {
            **frame_of(message),
            **{name: self.slots.mark(name) for name in ("redeem_url", "preferences_url", "unsubscribe_url")},
            **{name: self.slots.mark(name) for name in ("why_url", "address")},
            # Whoever is no member of anything any more still gets it from somebody.
            "group": self.slots.mark("group", fixed["creator"]),
            "also": [{name: self.slots.mark(f"also_{name}") for name in ("title", "inside", "redeem_url")}],
            "also_more": self.slots.mark("more"),
            "marks": marks,
        }
        text = render_to_string("emails/release.txt", {**context, "words": to_text(body)})
        html = INLINER.inline(render_to_string("emails/release.html", {**context, "words": to_html(body)}))
        self.text = self._body(text, marks, fixed, encode=str)
        self.html = self._body(html, marks, fixed, encode=in_html)
        size = self.html.length(items=LISTED) + LISTED * LONGEST_ITEM
        if size > LARGEST_HTML:
            raise WordsRefused(
                _("With these words the mail has %(size)s; many mail programs cut it off. Make them shorter.")
                % {"size": filesizeformat(size)}
            )
        self._address(message, creator)

    def to(self, recipient: Recipient) -> Mail:
        return Mail(self, recipient)

    def message_id(self, of: object) -> str:
        """The same on every attempt, and nobody else's: the request id is random."""
        return message_id_of(self.message, of)

    def _body(
        self, rendered: str, marks: dict[str, str], fixed: dict[str, str], *, encode: Callable[[str], str]
    ) -> Body:
        text = self._with_fixed(without_blank_runs(rendered), fixed, encode=encode)
        return Body(text, marks=list(marks.values()), encode=encode)

    def _with_fixed(self, text: str, fixed: dict[str, str], *, encode: Callable[[str], str]) -> str:
        return fill(text, self.slots.fixed(fixed), encode)

    def _address(self, message: Message, creator: Creator) -> None:
        """The headers and the MIME frame that every mail of the message shares."""
        self.envelope_from = parseaddr(settings.MAIL_FROM)[1]
        # From our own domain, which we may sign for; answers go to the creator.
        shown = display_name(creator.name)
        self.shown_from = f'"{shown}" <{self.envelope_from}>'
        # The address on a line of its own: one with an encoded word is full at 76 octets.
        coded = f'"{shown}"' if shown.isascii() else f"{encode_header('From', shown)}\r\n"
        self.reply_to = creator.reply_to
        host = _host()
        self.headers = {
            "List-Id": f"<{creator.slug}.{host}>",
            "Feedback-ID": f"release-{message.release_id}:{creator.slug}:{FEEDBACK[Message.Kind(message.kind)]}:{host}",
            "Auto-Submitted": "auto-generated",
            "X-Auto-Response-Suppress": "All",
        }
        boundary = f"=_largesse_{_key_of(message)}"
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


def frame_of(message: Message) -> dict[str, object]:
    """What the templates say alike in every mail of `message`."""
    release, creator = message.release, message.release.creator
    contents = contents_of(release) if message.kind != Message.Kind.DIGEST else []
    place = clean_source(creator.postal_address)
    return {
        "kind": message.kind,
        "creator": {"name": clean_source(creator.name)},
        "release": clean_source(str(release)),
        "contents": contents[:LISTED],
        "more": len(contents[LISTED:]),
        "site_name": settings.SITE_NAME,
        "site_url": settings.SITE_URL,
        "postal_address": [line.strip() for line in place.splitlines() if line.strip()],
    }


def values_of(item: Also) -> dict[str, str]:
    """An item's values as they stand in a mail."""
    return {
        "also_title": " ".join(item.title.split()),
        "also_inside": " ".join(item.inside.split()),
        "also_redeem_url": item.redeem_url,
    }


def and_more(number: int) -> str:
    """What stands for the releases too many to list."""
    words = ngettext("and %(number)d more in your library", "and %(number)d more in your library", number)
    return words % {"number": number}


@lru_cache(maxsize=64)
def _date(at: datetime) -> str:
    """A moment as mail writes it. A wave's mails share theirs."""
    return format_datetime(at.astimezone(UTC))


def message_id_of(message: Message, of: object) -> str:
    """The Message-ID of one of the message's mails: the same on every attempt, and nobody else's."""
    return f"<{of}.{_key_of(message)}@{_host()}>"


def _key_of(message: Message) -> str:
    return message.request_id.hex if message.request_id else "preview"


def _host() -> str:
    return urlsplit(settings.SITE_URL).hostname or "localhost"
