from collections.abc import Callable

import pytest
from django.core import mail

from groups.models import Contact
from messaging.models import Chunk, Delivery, Message

pytestmark = pytest.mark.django_db


def test_everyone_in_the_audience_gets_the_mail_once_and_the_message_is_done(
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
) -> None:
    message = start(confirm(draft))
    assert message.state == Message.State.RUNNING
    work()
    assert sorted(sent.to[0] for sent in mail.outbox) == [f"p{n}@example.net" for n in range(5)]
    assert set(Delivery.objects.values_list("state", flat=True)) == {"accepted"}
    message.refresh_from_db()
    assert message.state == Message.State.DONE
    assert Chunk.objects.get().tally == {"accepted": 5}
