"""Groups and their people: sizes, members, and what joining brings."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import F, Q, QuerySet

from distribution.models import Grant, Release, ReleaseItem
from groups.models import Contact, Creator, Group, Membership
from groups.services import people_of, who_gains_what
from messaging import throttle
from messaging.throttle import Meter


@dataclass
class GroupCard:
    """A group with the number of its people; a main group counts everyone in its tree.

    `meter` is the one that stops a message to it first: such a message charges each group it reaches.
    """

    group: Group
    people: int
    meter: Meter
    sub_groups: list["GroupCard"] = field(default_factory=list)


def group_cards(creator: Creator, *, now: datetime) -> list[GroupCard]:
    """The live main groups with their live sub groups, sizes and meters: four queries, however many there are."""
    # Main groups first, so that each sub group finds its parent's card.
    groups = list(creator.groups.live().order_by(F("parent_id").asc(nulls_first=True), "name", "id"))
    # Memberships are people: nobody has two that are live in one tree.
    sizes = people_of(groups, now=now)
    meters = throttle.meters(groups, now=now)
    charged = {pk: meter for pk, meter in meters.items() if sizes.get(pk)}
    cards: dict[int, GroupCard] = {}
    for group in groups:
        if group.parent_id is None:
            reached = [other.pk for other in groups if group.pk in {other.pk, other.parent_id}]
            meter = tightest(charged, reached) or meters[group.pk]
            cards[group.pk] = GroupCard(group, sum(sizes.get(pk, 0) for pk in reached), meter)
        elif parent := cards.get(group.parent_id):
            group.parent = parent.group
            meter = tightest(charged, [group.pk, parent.group.pk]) or meters[group.pk]
            parent.sub_groups.append(GroupCard(group, sizes.get(group.pk, 0), meter))
    return list(cards.values())


def pace_of(group: Group, *, now: datetime) -> Meter:
    """What may still be sent to `group`: the meter that stops a message to it first."""
    meters = throttle.meters(throttle.groups_charged([group], now=now), now=now)
    return tightest(meters, meters) or throttle.meter(group, now)


def tightest(meters: Mapping[int, Meter], groups: Iterable[int]) -> Meter | None:
    """Of the meters of those `groups` that a message charges the one that leaves the least; None if none is charged."""
    found = [meters[pk] for pk in groups if pk in meters]
    return min(
        found, key=lambda meter: (meter.left, -meter.next_at.timestamp(), -meter.month_used), default=None
    )


def people_in(group: Group, *, now: datetime) -> int:
    """How many people belong to `group` or its sub groups at `now`."""
    return sum(people_of(_tree_below(group), now=now).values())


def _tree_below(group: Group) -> list[Group]:
    return list(Group.objects.filter(Q(pk=group.pk) | Q(parent=group.pk)))


@dataclass(frozen=True)
class Joining:
    """What people gain by joining a group: at once, from releases that also go to late joiners, and from then on."""

    group: Group
    people: int
    bundles: int
    hears_from: list[Group]
    leaving: list[Group] = field(default_factory=list)
    there_already: bool = False


def joining(group: Group, address: str, *, now: datetime) -> Joining:
    """What whoever has this address gains by joining `group`; what they were given before does not count as gain."""
    contacts = Contact.objects.filter(creator=group.creator_id, address_key=address)
    belonging = who_gains_what(group, contacts, now=now)
    return Joining(
        group=group,
        people=1,
        bundles=late_bundles(belonging.hears_from, contacts),
        hears_from=belonging.hears_from,
        leaving=list(belonging.leaving),
        there_already=bool(belonging.there_already),
    )


def late_bundles(groups: list[Group], contacts: QuerySet[Contact] | None = None) -> int:
    """How many bundles whoever starts to hear from `groups` is given at once, and `contacts` do not have yet."""
    given = Release.objects.filter(
        rule=Release.Rule.LATE_JOINERS,
        state__in=[Release.State.GRANTING, Release.State.PUBLISHED],
        audience_rows__group__in=groups,
    )
    items = ReleaseItem.objects.filter(release__in=given.values("pk"))
    if contacts is not None:
        had = Grant.objects.filter(contact__in=contacts).values("release")
        items = items.exclude(bundle__in=ReleaseItem.objects.filter(release__in=had).values("bundle"))
    return items.values("bundle").distinct().count()


def given_bundles(contact: Contact) -> int:
    """How many bundles a contact was given: what leaving a group does not take away."""
    granted = Grant.objects.filter(contact=contact, revoked_at=None, release__recalled_at=None)
    released = granted.values("release")
    return ReleaseItem.objects.filter(release__in=released).values("bundle").distinct().count()


def memberships_of(creator: Creator) -> QuerySet[Membership]:
    """Every membership, ended or not, in a group that is not archived."""
    found = Membership.objects.filter(group__creator=creator, group__archived_at=None)
    return found.select_related("group", "group__parent", "contact")
