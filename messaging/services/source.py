"""What a message tells of, by its kind: the grants that planning makes deliveries of."""

from typing import Any

from django.db.models import Exists, Max, OuterRef, QuerySet

from distribution.models import Grant, Release
from groups.models import Creator
from library.models import Holding, LibraryEntry
from messaging.models import Delivery, Message


def grants_to_tell(message: Message, **within: Any) -> QuerySet[Grant]:
    """The grants that `message` tells of, at most one a contact, to the contacts `within` (`contact__gt=…`).

    An announcement: everybody's under its release. A reminder: those that nobody has redeemed by now and that stand
    in no library yet. A digest: the newest of those for which each contact waits.
    """
    if message.kind == Message.Kind.DIGEST:
        newest = held_for(message.release.creator, **within).values("contact").annotate(newest=Max("grant"))
        return Grant.objects.filter(pk__in=newest.values("newest"), **within)
    grants = Grant.objects.filter(release=message.release_id, **within)
    if message.kind == Message.Kind.REMINDER:
        return unredeemed(grants)
    return grants


def unredeemed(grants: QuerySet[Grant]) -> QuerySet[Grant]:
    """Those that still wait for their person: neither redeemed nor revoked, nor in a known account's library."""
    origin_key = Release.origin_key_of(OuterRef(OuterRef("release_id")))
    ways = Holding.objects.live().filter(origin_key=origin_key)
    held = LibraryEntry.objects.filter(user=OuterRef("contact__account")).by(ways)
    return grants.filter(redeemed_at=None, revoked_at=None).filter(~Exists(held))


def held_for(creator: Creator, **within: Any) -> QuerySet[Delivery]:
    """The deliveries that wait for a digest of `creator` and may still be told."""
    held = Delivery.objects.filter(message__in=holding(creator), state=Delivery.State.HELD, **within)
    return held.filter(grant__revoked_at=None, grant__release__recalled_at=None).order_by()


def holding(creator: Creator) -> list[int]:
    """The messages of `creator` with deliveries that wait for a digest. Ids, so that the planner knows how few."""
    waiting = Message.objects.filter(release__creator=creator, held__gt=0)
    return list(waiting.filter(state__in=TELLING).values_list("pk", flat=True))


# A paused message is told by nobody else either; a cancelled one never.
TELLING = [Message.State.CONFIRMED, Message.State.RUNNING, Message.State.DONE]
