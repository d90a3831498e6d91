"""To whom a mail goes, where its links lead, and what else it tells of."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import NamedTuple

from django.conf import settings
from django.urls import reverse
from django.utils.translation import ngettext

from distribution.audience import reached_groups
from distribution.models import Release
from distribution.tickets import issue_ticket
from groups.models import Contact, Group, Membership
from messaging.contents import Line, contents_of_each, still_given
from messaging.models import Delivery, Message
from messaging.tokens import preferences_token, why_token
from messaging.words import clean_source
from rows.planner import by_keys
from rows.sets import among

# Of an item's bundles so many are named in its one line.
NAMED = 3
LONGEST_INSIDE = 160


@dataclass(frozen=True)
class Also:
    """One more release that a mail tells of, with its own way to redeem it."""

    title: str
    inside: str
    redeem_url: str


class Recipient(NamedTuple):
    """What one mail needs to know."""

    address: str
    name: str
    group: str
    redeem_url: str
    preferences_url: str
    unsubscribe_url: str
    why_url: str
    # What makes its Message-ID this one's.
    delivery: object
    date: datetime
    # Newest first.
    also: Sequence[Also] = ()
    # Names the call it leaves in; the same whenever that call is repeated.
    call: str = ""


def links_of(contact_id: int, grant_id: int, generation: int, delivery_id: int) -> dict[str, str]:
    """Where the links in a delivery's mail lead. From SITE_URL, never from a request."""
    token = preferences_token(contact_id)
    return {
        "redeem_url": _url("redeem", issue_ticket(grant_id, generation)),
        "preferences_url": _url("messaging:preferences", token),
        "unsubscribe_url": _url("messaging:unsubscribe", token),
        "why_url": _url("messaging:why", why_token(delivery_id)),
    }


def recipient_of(
    delivery: Delivery, *, group: str, date: datetime, also: Sequence[Also], call: str
) -> Recipient:
    """Whom the mail of a delivery found `with_recipient` goes to. Twice: the same to the last link, as long as nobody changed their name."""
    return Recipient(
        address=delivery.address_key,
        name=delivery.to_name,
        group=group,
        delivery=delivery.pk,
        date=date,
        also=also,
        call=call,
        **links_of(delivery.contact_id, delivery.grant_id, delivery.generation, delivery.pk),
    )


def call_name(first: int, attempt: int) -> str:
    """What a call to a provider is known by: its first mail, and which attempt at that it is."""
    return f"{first}.{attempt}"


def also_of(deliveries: Iterable[Delivery]) -> dict[int, list[Also]]:
    """What else the mail of each of `deliveries` tells of, newest first, each release once; nothing has no entry.

    What was taken back meanwhile is not told. However many deliveries: a handful of queries.
    """
    own = {delivery.pk: delivery for delivery in deliveries}
    if not own:
        return {}
    with by_keys():
        told = list(Delivery.objects.filter(among("told_in", own)))
    given = still_given(row.grant_id for row in told)
    found: dict[int, dict[int, Delivery]] = defaultdict(dict)
    for row in told:
        if grant := given.get(row.grant_id):
            row.grant = grant
            found[row.told_in or 0][grant.release_id] = row
    if not found:
        return {}
    digests = set(
        Message.objects.filter(
            pk__in={delivery.message_id for delivery in own.values()}, kind=Message.Kind.DIGEST
        ).values_list("pk", flat=True)
    )
    inside = contents_of_each({release for rows in found.values() for release in rows})
    items: dict[int, list[Also]] = {}
    for pk, rows in found.items():
        # A digest tells of nothing by itself; any other mail is about its own release already.
        besides = [
            row
            for row in sorted(rows.values(), key=lambda row: row.grant_id, reverse=True)
            if own[pk].message_id in digests or row.grant_id != own[pk].grant_id
        ]
        if besides:
            items[pk] = [_item(row, inside[row.grant.release_id]) for row in besides]
    return items


def _item(told: Delivery, lines: Sequence[Line]) -> Also:
    grant = told.grant
    return Also(
        title=clean_source(str(grant.release)),
        inside=inside_in_words(lines),
        redeem_url=_url("redeem", issue_ticket(grant.pk, grant.generation)),
    )


def inside_in_words(lines: Sequence[Line]) -> str:
    """A release's bundles in one line."""
    named = [f"{_cut(line.title)} ({line.size})" for line in lines[:NAMED]]
    more = len(lines) - len(named)
    if more:
        named.append(ngettext("and %(number)d more", "and %(number)d more", more) % {"number": more})
    return ", ".join(named)


def _cut(title: str) -> str:
    room = LONGEST_INSIDE // (NAMED + 1)
    return title if len(title) <= room else title[:room].rstrip() + "…"


def sample_recipient(
    contact: Contact | None, *, group: str, now: datetime, also: Sequence[Also] = ()
) -> Recipient:
    """A mail that is only looked at: its links lead to the front door."""
    front = f"{settings.SITE_URL}/"
    return Recipient(
        address=contact.address_key if contact else "alex@example.org",
        name=contact.name if contact else "Alex Example",
        group=group,
        redeem_url=front,
        preferences_url=front,
        unsubscribe_url=front,
        why_url=front,
        delivery=f"sample-{int(now.timestamp())}",
        date=now,
        also=also,
    )


def group_names(contacts: Iterable[int], release: Release, *, now: datetime) -> dict[int, str]:
    """By which group each contact gets the release: their own membership's name."""
    names = {
        group.pk: str(group)
        for group in Group.objects.filter(pk__in=reached_groups(release)).select_related("parent")
    }
    chosen = set(contacts)
    if not chosen:
        return {}
    # A range, which `membership_by_group` holds together, whatever the statistics say of a thousand keys.
    within = {"contact__gte": min(chosen), "contact__lte": max(chosen)}
    rows = Membership.objects.live(now).filter(group__in=list(names), **within)
    belonging = rows.order_by("-started_at", "-pk").values_list("contact_id", "group_id")
    return {contact_id: names[group_id] for contact_id, group_id in belonging if contact_id in chosen}


def _url(name: str, token: str) -> str:
    return f"{settings.SITE_URL}{_path(name) % token}"


@cache
def _path(name: str) -> str:
    """A page's path with a place for the token: looked up once, not for each of a million mails."""
    return reverse(name, args=["TOKEN"]).replace("TOKEN", "%s")
