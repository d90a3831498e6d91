"""What is planned for a person goes to their address of now."""

from collections.abc import Collection

from django.db.models import CharField, F, Q, Value
from django.db.models.functions import Cast, Concat

from messaging import recipient_cap
from messaging.models import Chunk, Delivery
from messaging.services.eligible import moved

State = Delivery.State
BATCH = 500
# What stands where an address was that is another person's now: nothing is ever written to it.
NOWHERE = Concat(Value("#"), Cast(F("contact_id"), CharField()))


def follow(chunk: Chunk, *, creator_id: int) -> None:
    """What waits in `chunk` to be sent goes to the present address of its person, to be charged and judged anew.

    An address to which the message went already, as somebody else's, is not written to twice. Addresses may be
    passed on and swapped. Twice: nothing changes. Part of the transaction that opens the chunk, under the creator's
    lock: no two follow at once.
    """
    waiting = Delivery.objects.of(chunk).filter(state=State.PLANNED).order_by()
    going = {row.pk: row for row in moved(waiting).only("address_key", "message")}
    if not going:
        return
    _leave(list(going), creator_id=creator_id)
    addresses = {row.now_at for row in going.values()}  # type: ignore[attr-defined]  # as `moved` annotates
    free_addresses(chunk.message_id, addresses, creator_id=creator_id)
    rows = Delivery.objects.filter(message=chunk.message_id, address_key__in=addresses)
    taken = set(rows.values_list("address_key", flat=True))
    arriving = []
    for row in going.values():
        if row.now_at not in taken:  # type: ignore[attr-defined]
            row.address_key = row.now_at  # type: ignore[attr-defined]
            arriving.append(row)
    Delivery.objects.bulk_update(arriving, ["address_key"], batch_size=BATCH)
    doubled = going.keys() - {row.pk for row in arriving}
    Delivery.objects.filter(pk__in=doubled).update(
        state=State.SKIPPED, reason=Delivery.Reason.SAME_ADDRESS, not_before=None
    )


def free_addresses(message_id: int, addresses: Collection[str], *, creator_id: int) -> None:
    """Deliveries of the message that hold one of `addresses`, another person's now, and never wrote to it let it go.

    Those that wait to be sent follow their own person when their chunk is opened. Twice: nothing changes.
    """
    never_written = Q(state__in=[State.PLANNED, State.HELD]) | Q(
        state__in=[State.SUPPRESSED, State.SKIPPED, State.CANCELLED], offered_at=None
    )
    rows = Delivery.objects.filter(never_written, message=message_id, address_key__in=addresses)
    _leave(list(moved(rows).values_list("pk", flat=True)), creator_id=creator_id)


def _leave(ids: list[int], *, creator_id: int) -> None:
    """They hold no address any more, and what was charged for a mail that was never offered is given back."""
    leaving = Delivery.objects.filter(pk__in=ids)
    recipient_cap.give_back(leaving.filter(attempts=0), creator_id=creator_id)
    leaving.update(address_key=NOWHERE, charged_at=None)
