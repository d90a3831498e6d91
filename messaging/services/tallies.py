"""Chunks count themselves; whoever changes deliveries behind their back has them count anew."""

from bisect import bisect_left
from collections.abc import Iterable

from django.db import transaction
from django.db.models import IntegerField, OuterRef, Subquery, Sum
from django.db.models.fields.json import KT
from django.db.models.functions import Cast, Coalesce

from messaging.models import Chunk, Delivery, Message


def recount(message_id: int, contacts: Iterable[int]) -> None:
    """The chunks that hold the deliveries to `contacts` have their true numbers, and so has the message's `held`.

    One that a worker holds is left alone: it is counted when it is let go. Twice: the same numbers.
    """
    chunks = list(Chunk.objects.filter(message=message_id).order_by("number"))
    ends = [chunk.until for chunk in chunks]
    places = {bisect_left(ends, contact) for contact in contacts}
    for chunk in (chunks[at] for at in sorted(places) if at < len(chunks)):
        _count(chunk)
    count_held(message_id)


@transaction.atomic
def _count(chunk: Chunk) -> None:
    # Under lock: whoever lets go of it at this instant may have counted before us and commit after us.
    free = Chunk.objects.select_for_update(no_key=True).filter(pk=chunk.pk, lease_until=None)
    if free.first():
        free.update(tally=Delivery.objects.of(chunk).tally())


def count_held(message_id: int) -> None:
    """`Message.held` is what its chunks count. Twice: the same."""
    held = Chunk.objects.filter(message=OuterRef("pk"), tally__has_key="held").order_by()
    total = held.values("message").annotate(all=Sum(Cast(KT("tally__held"), IntegerField())))
    Message.objects.filter(pk=message_id).update(held=Coalesce(Subquery(total.values("all")), 0))
