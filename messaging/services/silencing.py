"""An address is not written to any more because of one creator's mail."""

from datetime import datetime

from accounts.models import Suppression
from accounts.services import suppress
from messaging.models import Message


def silence(address: str, reason: Suppression.Reason, *, message_id: int, now: datetime) -> None:
    """`address` (a key) is not written to any more, by anybody here, as this message's mail showed. Twice: the first stays."""
    creator_id = Message.objects.values_list("release__creator", flat=True).get(pk=message_id)
    suppress(address, reason, creator_id=creator_id, now=now)
