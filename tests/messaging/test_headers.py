"""Header lines as RFC 2047 wants them, whatever a subject or a name is made of."""

import re
from collections.abc import Iterator
from datetime import datetime
from email import message_from_bytes
from email.header import decode_header, make_header
from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from messaging.mail import Mailing, display_name, sample_recipient
from messaging.mail.encoding import tame_subject
from messaging.models import Message

pytestmark = pytest.mark.django_db

WORD = re.compile(rb"=\?[^?\s]*\?[bq]\?[^?\s]*\?=", re.IGNORECASE)
SOME = st.text(st.sampled_from("ab c=?_,ü…名🎉") | st.characters(codec="utf-8"), max_size=150)


def header_lines(raw: bytes) -> Iterator[bytes]:
    yield from raw.partition(b"\r\n\r\n")[0].split(b"\r\n")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(subject=SOME, name=SOME)
@example(
    subject="Drachenbüste und Ritter für alle Förderer im November, größer als jemals zuvor ♥", name="Ä" * 50
)
@example(subject="名" * 150, name="Anaïs" * 12)
@example(subject="ü" * 21 + " x" * 40, name="a" * 49 + "é")
def test_no_encoded_word_is_longer_than_75_octets_and_no_line_with_one_longer_than_76(
    draft: Message, now: datetime, subject: str, name: str
) -> None:
    draft.subject, draft.request_id = subject.replace("{", "(") or "s", UUID(int=5)
    draft.release.creator.name = name or "n"
    mailing = Mailing(draft)
    mail = mailing.to(sample_recipient(None, group="", now=now))
    for line in header_lines(mail.raw):
        assert line.isascii()
        assert len(line) <= (76 if WORD.search(line) else 998)
        assert all(len(word) <= 75 for word in WORD.findall(line))
    found = message_from_bytes(mail.raw)
    assert _read(found["Subject"]) == " ".join(tame_subject(mail.subject).split())
    shown, _at, sender = _read(found["From"]).rpartition(" ")
    assert (shown.strip('"'), sender) == (display_name(name or "n"), f"<{mailing.envelope_from}>")


def _read(value: str) -> str:
    """A header as it is shown. (Python's newer parser sets a space between two encoded words of a name.)"""
    unfolded = value.replace("\r\n", "")
    return " ".join(str(make_header(decode_header(unfolded))).split())
