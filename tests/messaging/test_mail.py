import email
import email.policy
import re
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any
from uuid import UUID

import pytest
from django.conf import LazySettings

from distribution.models import Release, ReleaseItem
from groups.models import Creator
from messaging.mail import LARGEST_HTML, Also, Mail, Mailing, Recipient, display_name, encode_line
from messaging.models import Message
from messaging.words import WordsRefused
from tests.factories import BundleFactory

pytestmark = pytest.mark.django_db

NAMES = [
    "Zoë O'Neill",
    "=?utf-8?q?evil?=",
    "Eve\r\nBcc: evil@e.co",
    '"x" <evil@e.co>, "y"',
    "مريم بنت محمد",
    "\u202egnp.exe",
    "N" * 300,
    "名" * 300,
    "👩\u200d🚀 & <b>bold</b>",
    ".",
    "",
]


def mail_to(message: Message, **changes: Any) -> Mail:
    values: dict[str, Any] = {
        "address": "mia@example.org",
        "name": "Mia Berg",
        "group": "Patrons · Hobbyist",
        "redeem_url": "https://gifts.example/redeem/abc/",
        "preferences_url": "https://gifts.example/preferences/1.x/",
        "unsubscribe_url": "https://gifts.example/unsubscribe/1.x/",
        "why_url": "https://gifts.example/why/7.x/",
        "delivery": 7,
        "date": datetime(2026, 11, 21, 12, tzinfo=UTC),
    }
    return Mailing(message).to(Recipient(**{**values, **changes}))


def parsed(mail: Mail) -> EmailMessage:
    return email.message_from_bytes(mail.raw, policy=email.policy.default)  # type: ignore[return-value]


def parts(message: EmailMessage) -> tuple[str, str]:
    text, html = message.iter_parts()
    return text.get_content().replace("\r\n", "\n"), html.get_content().replace("\r\n", "\n")  # type: ignore[attr-defined]


def test_a_mail_carries_everything_it_must(draft: Message, settings: LazySettings) -> None:
    settings.SITE_URL, settings.MAIL_FROM = "https://gifts.example", "mail@gifts.example"
    draft.request_id = UUID(int=5)
    found = parsed(mail_to(draft))
    assert dict(found.items()) == {
        "From": "Ana's Forge <mail@gifts.example>",
        "Reply-To": "hello@anas-forge.example",
        "MIME-Version": "1.0",
        "Content-Type": f'multipart/alternative; boundary="=_largesse_{UUID(int=5).hex}"',
        "To": "mia@example.org",
        "Subject": "The dragon is here",
        "Date": "Sat, 21 Nov 2026 12:00:00 +0000",
        "Message-ID": f"<7.{UUID(int=5).hex}@gifts.example>",
        "List-Unsubscribe": "<https://gifts.example/unsubscribe/1.x/>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        "List-Id": "<anas-forge.gifts.example>",
        "Feedback-ID": f"release-{draft.release_id}:anas-forge:release:gifts.example",
        "Auto-Submitted": "auto-generated",
        "X-Auto-Response-Suppress": "All",
    }
    for part in parts(found):
        for words in (
            "Hi Mia,",
            "Redeem here",
            "https://gifts.example/redeem/abc/",
            "Dragon bust",
            "You get this because you are a member of",
            "Patrons · Hobbyist",
            "mia@example.org",
            "https://gifts.example/preferences/1.x/",
            "https://gifts.example/unsubscribe/1.x/",
            "https://gifts.example/why/7.x/",
            "1 Mill Lane, 12345 Town, Germany",
        ):
            assert words in part
    assert "<img" not in parts(found)[1]


ALSO = [Also(f"Release {n}", f"Bundle {n} (3 MB)", f"https://gifts.example/redeem/t{n}/") for n in range(40)]


@pytest.mark.parametrize(("kind", "stream"), [("reminder", "reminder"), ("digest", "digest")])
def test_every_kind_of_mail_carries_it(
    draft: Message, settings: LazySettings, kind: str, stream: str
) -> None:
    settings.SITE_URL, settings.MAIL_FROM = "https://gifts.example", "mail@gifts.example"
    draft.request_id, draft.kind = UUID(int=5), kind
    found = parsed(mail_to(draft, also=ALSO[:2]))
    assert found["Feedback-ID"] == f"release-{draft.release_id}:anas-forge:{stream}:gifts.example"
    assert found["List-Unsubscribe"] == "<https://gifts.example/unsubscribe/1.x/>"
    assert found["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert found["Reply-To"] == "hello@anas-forge.example"
    for part in parts(found):
        for words in ("Hi Mia,", "Redeem here", "Release 0", "Bundle 1 (3 MB)", "/redeem/t0/", "/redeem/t1/"):
            assert words in part
        for words in ("Patrons · Hobbyist", "/preferences/1.x/", "/unsubscribe/1.x/", "/why/7.x/", "1 Mill"):
            assert words in part
        # A digest has no release of its own beside those it lists.
        assert ("/redeem/abc/" in part) == (kind != "digest")
        assert ("Dragon bust" in part) == (kind != "digest")


@pytest.mark.parametrize("kind", Message.Kind)
def test_the_text_comes_first_and_nothing_is_fetched_counted_or_run(draft: Message, kind: str) -> None:
    draft.kind, draft.body = kind, "Hi [you](https://e.co/) ![x](https://e.co/pixel.gif) <img src=x>"
    found = parsed(mail_to(draft, also=ALSO))
    assert [part.get_content_type() for part in found.iter_parts()] == ["text/plain", "text/html"]
    html = parts(found)[1]
    for tag in ("<img", "<script", "<link", "<iframe", "<svg", "url(", "<video", "@import", "@font-face"):
        assert tag not in html
    assert 'name="color-scheme" content="light dark"' in html
    assert "prefers-color-scheme: dark" in html
    # Links go where they say, past nobody who counts.
    hosts = {url.split("/")[2] for url in re.findall(r'href="([^"]+)"', html)}
    assert hosts <= {"gifts.example", "testserver", "e.co"}


def test_every_attempt_is_the_same_mail_to_the_last_octet(draft: Message) -> None:
    draft.request_id = UUID(int=5)
    assert mail_to(draft, also=ALSO[:3]).raw == mail_to(draft, also=ALSO[:3]).raw
    ids = {parsed(mail_to(draft, delivery=number))["Message-ID"] for number in range(5)}
    assert len(ids) == 5


@pytest.mark.parametrize("kind", Message.Kind)
def test_many_releases_are_listed_up_to_twelve_and_the_mail_stays_small(draft: Message, kind: str) -> None:
    draft.kind, draft.body = kind, "word " * 3500
    long = [Also("Ü" * 120, "ö" * 160, f"https://gifts.example/redeem/{'t' * 36}{n}/") for n in range(500)]
    mail = mail_to(draft, also=long)
    assert mail.text.count("Ü" * 120) == mail.html.count("Ü" * 120) == 12
    for part in (mail.text, mail.html):
        assert "and 488 more in your library" in part
    assert len(mail.html.encode()) <= LARGEST_HTML
    assert "more in your library" not in mail_to(draft, also=long[:12]).html


def test_whoever_is_in_no_group_any_more_still_reads_whose_member_they_were(draft: Message) -> None:
    assert "because you are a member of: Ana's Forge" in mail_to(draft, group="").text


def test_what_stands_in_an_attribute_is_ours_alone(draft: Message) -> None:
    evil = '" onclick="x'
    draft.body = "Hi {name}"
    mail = mail_to(draft, name=evil, group=evil, also=[Also(evil, evil, "https://gifts.example/redeem/1/")])
    tags = re.findall(r"<[^>]*>", mail.html)
    assert not [tag for tag in tags if "onclick" in tag]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_survives_and_changes_nothing_but_itself(draft: Message, name: str) -> None:
    draft.subject, draft.body = "{first_name|you}: the dragon", "Hi {name|friend}, *welcome*."
    draft.request_id = UUID(int=5)
    mail = mail_to(draft, name=name)
    found = parsed(mail)
    assert found.defects == []
    assert set(found.keys()) == set(parsed(mail_to(draft)).keys())
    assert found["To"] == "mia@example.org"
    assert found["Subject"] == mail.subject
    assert "\n" not in mail.subject
    text, html = parts(found)
    assert text == mail.text
    assert html == mail.html
    assert "<b>bold" not in html
    assert all(len(line) <= 998 for line in mail.raw.split(b"\r\n"))
    assert b"\n" not in mail.raw.replace(b"\r\n", b"")
    assert mail.raw.isascii()


@pytest.mark.parametrize("name", NAMES)
def test_the_same_mail_through_a_backend_says_the_same(draft: Message, name: str) -> None:
    draft.request_id = UUID(int=5)
    mail = mail_to(draft, name=name)
    theirs = email.message_from_bytes(mail.for_backend().message().as_bytes(), policy=email.policy.default)
    ours = parsed(mail)
    assert parts(theirs) == parts(ours)  # type: ignore[arg-type]
    without_frame = set(ours.keys()) - {"Content-Type"}
    assert {key: theirs[key] for key in without_frame} == {key: ours[key] for key in without_frame}


@pytest.mark.parametrize("name", [*NAMES, "MyBank <support@bank.example>", "Forge; Ltd. (Berlin)", "\\"])
def test_a_creators_name_stays_a_name(
    draft: Message, creator: Creator, name: str, settings: LazySettings
) -> None:
    creator.name = name[:80]
    creator.save()
    draft.refresh_from_db()
    found = parsed(mail_to(draft))
    [address] = found["From"].addresses  # type: ignore[attr-defined]
    assert address.addr_spec == settings.MAIL_FROM
    # Python puts spaces between the encoded words of a long name; mail programs must not (RFC 2047, 6.2).
    assert address.display_name.replace(" ", "") == display_name(creator.name).replace(" ", "")
    assert found.defects == []


def test_lines_are_encoded_one_by_one_and_never_too_long() -> None:
    assert encode_line("") == b"\r\n"
    assert encode_line("a=b ") == b"a=3Db=20\r\n"
    assert encode_line(".") == b"=2E\r\n"
    assert all(len(line) <= 76 for line in encode_line("ö" * 5000).split(b"\r\n"))


def test_a_long_list_of_bundles_ends_with_how_many_more(draft: Message, release: Release) -> None:
    for number in range(13):
        ReleaseItem.objects.create(
            release=release,
            bundle=BundleFactory.create(creator=release.creator, title=f"Bundle no. {number}"),
        )
    mail = mail_to(draft)
    assert "Bundle no. 10" in mail.text
    assert "Bundle no. 11" not in mail.text
    assert "and 2 more" in mail.text
    assert "and 2 more" in mail.html


def test_the_whole_mail_stays_below_what_mail_programs_cut_off(draft: Message) -> None:
    draft.body = "word " * 4000
    assert len(mail_to(draft).html.encode()) < LARGEST_HTML
    draft.body = "- a\n" * 5000
    with pytest.raises(WordsRefused, match="Make them shorter"):
        mail_to(draft)


def test_a_title_is_text_in_both_parts(draft: Message, release: Release) -> None:
    release.title = "<script>{name} & 50 % {off}"
    release.save()
    draft.refresh_from_db()
    mail = mail_to(draft)
    assert "<script>{name} & 50 % {off}" in mail.text
    assert "&lt;script&gt;{name} &amp; 50 % {off}" in mail.html
