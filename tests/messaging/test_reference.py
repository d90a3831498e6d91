"""The fast way and the slow way make the same octets, whoever is written to."""

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import pytest
from django.conf import LazySettings
from hypothesis import HealthCheck, given
from hypothesis import settings as rounds
from hypothesis import strategies as st

from groups.models import Creator
from messaging.mail import Also, Mailing, Recipient
from messaging.models import Message
from tests.messaging.reference import slow_mail

pytestmark = pytest.mark.django_db

NAMES = [
    "Zoë O'Neill",
    "=?utf-8?q?x?=",
    "=?utf-8?B?w7w=?= {name}",
    "N" * 300,
    "名 " * 150,
    "مريم بنت محمد",
    "שלום \u202eabc",
    "👩\u200d🚀 🇺🇦",
    "<b>bold</b> & <script>",
    "%s %(name)s %d {name} {0} {{ name }} {% now 'Y' %}",
    "\"quoted\" 'single' `tick`",
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
    "QZQ0000QZQ",
    ".",
    "..",
    "From here",
    "a=b= ",
    "tab\tand\r\nBcc: evil@e.co",
    "nb\xa0sp",
    "",
]
WORDS = [
    ("The dragon is here", "Hi {first_name|friend},\n\nthe *dragon* is ready for {group}."),
    ("{first_name|you}: {release}", "# {name}\n\n- one {name}\n- **{group}**\n\n> {creator}\n\n`{name}`"),
    ("Größe & Wärme ♥", ".\n\n..\n\n[a link](https://e.co/?a=1&b=2) & <b>x</b> — ‘quotes’ \"and\" 'so'"),
    ("s", ""),
]


@pytest.fixture(autouse=True)
def abroad(settings: LazySettings) -> None:
    settings.SITE_URL, settings.MAIL_FROM = "https://gifts.example", "mail@gifts.example"


@pytest.fixture
def written(draft: Message) -> Callable[[str, str], Message]:
    def words(subject: str, body: str) -> Message:
        draft.subject, draft.body, draft.request_id = subject, body, UUID(int=5)
        return draft

    return words


RECIPIENT = Recipient(
    address="mia.o'neill@example.org",
    name="Mia Berg",
    group="Patrons · Hobbyist",
    redeem_url="https://gifts.example/redeem/AQAAAAAAAAABAAEJ2gwTTR2tSzKyvkGvMGIX/",
    preferences_url="https://gifts.example/preferences/1.x-_/",
    unsubscribe_url="https://gifts.example/unsubscribe/1.x-_/",
    why_url="https://gifts.example/why/7.x-_/",
    delivery=7,
    date=datetime(2026, 11, 21, 12, tzinfo=UTC),
)


def besides(number: int) -> list[Also]:
    return [
        Also(
            f"Té & <i>{n}</i> “so” 'x' \"y\"", f"Bündel {n} (3 MB), =20", f"https://gifts.example/redeem/{n}/"
        )
        for n in range(number)
    ]


def same(message: Message, recipient: Recipient) -> None:
    fast = Mailing(message).to(recipient).raw
    assert fast.split(b"\r\n") == slow_mail(message, recipient).split(b"\r\n")


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("name", NAMES)
def test_any_name_in_any_words(
    written: Callable[[str, str], Message], name: str, words: tuple[str, str]
) -> None:
    same(written(*words), RECIPIENT._replace(name=name, group=name or "x"))


@pytest.mark.parametrize("kind", Message.Kind)
@pytest.mark.parametrize("number", [0, 1, 2, 12, 13, 40])
def test_any_kind_with_any_number_of_other_things(
    written: Callable[[str, str], Message], kind: str, number: int
) -> None:
    message = written(*WORDS[1])
    message.kind = kind
    same(message, RECIPIENT._replace(also=besides(number), group=""))


@pytest.mark.parametrize("name", [*NAMES[:13], "Forge; Ltd. (Berlin)"])
def test_any_creator(written: Callable[[str, str], Message], creator: Creator, name: str) -> None:
    message = written(*WORDS[1])
    message.release.creator.name = name[:80]
    message.release.title = name[:120]
    same(message, RECIPIENT._replace(also=besides(2)))


@rounds(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(max_size=200), group=st.text(max_size=80), title=st.text(max_size=60))
def test_any_text_at_all(written: Callable[[str, str], Message], name: str, group: str, title: str) -> None:
    shown = " ".join("".join(char for char in title if char.isprintable()).split())
    also = [Also(shown or "x", "y", "https://gifts.example/redeem/1/")]
    same(written(*WORDS[1]), RECIPIENT._replace(name=name, group=group, also=also))
