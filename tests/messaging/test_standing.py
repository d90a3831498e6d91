"""How sending stands, on one screen: numbers that are true whatever became of the workers."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from groups.models import Contact
from messaging import services
from messaging.figures import mails
from messaging.mail import Mailing
from messaging.models import Delivery, Message
from messaging.standing import lines
from tests.messaging.test_chunks import OK, Script

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


class Killed(BaseException):
    """As SIGKILL ends a worker: nothing of it runs afterwards."""


@pytest.fixture
def message(
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    now: datetime,
) -> Message:
    """Of five mails three were accepted and recorded when the worker was killed over the fourth."""
    message = start(confirm(draft))
    chunk = services.open_chunk(owner="x", now=now)
    assert chunk is not None

    def kill() -> None:
        if len(way.offered) == 4:
            raise Killed

    way = Script([OK] * 5, hook=kill, wave=1)
    with pytest.raises(Killed):
        services.send_chunk(chunk, Mailing(message), way, clock=lambda: now, stop=lambda: False)
    return message


def test_a_worker_that_is_killed_takes_no_number_with_it(
    message: Message, work: Callable[..., None], now: datetime
) -> None:
    assert mails(now) == Delivery.objects.all().tally() == {"accepted": 3, "planned": 1, "sending": 1}
    said = "Mails (30 days): 1 waiting to be sent, 1 being handed over, 3 accepted by the mail system."
    assert said in list(lines(now))
    message.chunks.update(lease_until=now - DAY)
    work(at=now)
    assert mails(now) == Delivery.objects.all().tally() == {"accepted": 4, "unknown": 1}
    assert "Mails (30 days): 4 accepted by the mail system, 1 in doubt." in list(lines(now))


def test_mails_of_long_ago_are_nobodys_news(message: Message, now: datetime) -> None:
    assert mails(now + 30 * DAY) != {}
    assert mails(now + 31 * DAY) == {}
    assert not any(line.startswith("Mails") for line in lines(now + 31 * DAY))
