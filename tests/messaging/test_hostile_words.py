"""What a creator types can look like the marks our own mails are filled by. It is words all the same."""

from collections.abc import Callable
from datetime import datetime

import pytest

from groups.models import Contact
from library.models import Bundle
from messaging import services
from messaging.models import Message

MARKS = ["\ue00099\ue001", "\ue0000\ue001", "\ue000٣\ue001", "\ue001\ue000"]


def title_it(draft: Message, text: str) -> None:
    draft.release.title = text
    draft.release.save()


def call_the_bundle(draft: Message, text: str) -> None:
    Bundle.objects.update(title=text)


def name_the_creator(draft: Message, text: str) -> None:
    draft.release.creator.name = text


def live_at(draft: Message, text: str) -> None:
    draft.release.creator.postal_address = text


def write_above(draft: Message, text: str) -> None:
    draft.subject = text


def write(draft: Message, text: str) -> None:
    draft.body = text


def fall_back_on(draft: Message, text: str) -> None:
    draft.body = f"{{first_name|{text}}}"


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize(
    "put", [title_it, call_the_bundle, name_the_creator, live_at, write_above, write, fall_back_on]
)
def test_nothing_typed_is_taken_for_a_place_to_be_filled(
    draft: Message,
    people: list[Contact],
    put: Callable[[Message, str], None],
    mark: str,
    now: datetime,
) -> None:
    put(draft, f"before{mark}after")
    mail = services.preview(draft, contact=people[0], now=now)
    for text in (mail.subject, mail.text, mail.html):
        assert not {"\ue000", "\ue001"} & set(text)
    # The address stands where we put it, and nowhere a creator wanted it.
    assert mail.text.count(people[0].address_key) == 1
    assert mail.raw
