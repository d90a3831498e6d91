"""Who belongs: memberships begin and end, and every change raises the roster's version."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F
from django.utils.translation import gettext as _

from groups.models import Contact, Group, Membership

INSTANT = timedelta(microseconds=1)  # the shortest membership the database allows


class GroupArchived(Exception):
    """This group is archived; nobody can be added to it."""


class AlreadyInTree(Exception):
    """The contact belongs to another group of the same tree, and a contact has one place in a tree (P3)."""

    def __init__(self, membership: Membership) -> None:
        self.membership = membership
        super().__init__(
            _("%(person)s is in %(group)s already. Move them, or end that membership first.")
            % {"person": membership.contact, "group": membership.group}
        )


def start_membership(group: Group, contact: Contact, *, now: datetime, move: bool = False) -> Membership:
    """`contact` belongs to `group` from `now` on, with no planned end; the rosters it touches are raised.

    Twice: the membership that is there is returned, nothing is written. With `move`, what they had elsewhere in the
    tree ends at the same instant. Raises `GroupArchived`, `AlreadyInTree`.
    """
    if group.creator_id != contact.creator_id:
        raise ValueError("a contact belongs to groups of its own creator")
    with transaction.atomic():
        lock_tree(group)
        if not Group.objects.live().filter(pk=group.pk).exists():
            raise GroupArchived(_("%(group)s is archived; nobody can be added to it.") % {"group": group})
        held = list(
            Membership.objects.unended(now)
            .in_tree(group)
            .filter(contact=contact)
            .select_related("group", "group__parent", "contact")
            .order_by(F("ended_at").desc(nulls_first=True))
        )
        here = next((membership for membership in held if membership.group_id == group.pk), None)
        elsewhere = [membership for membership in held if membership.group_id != group.pk]
        if here and here.ended_at is None and not elsewhere:
            return here
        if elsewhere and not move:
            raise AlreadyInTree(elsewhere[0])
        for membership in elsewhere:
            _end(membership, now)
        if here is None:
            here = Membership.objects.create(group=group, contact=contact, started_at=now, recorded_at=now)
        elif here.ended_at is not None:
            here.ended_at = None
            here.save(update_fields=["ended_at"])
        raise_rosters([group, *(membership.group for membership in elsewhere)])
    return here


def end_membership(membership: Membership, *, now: datetime) -> bool:
    """The membership has ended at `now` and is kept; grants stay. Returns whether this call ended it.

    Twice, or after it ended by itself: nothing changes. A planned end in the future is brought forward.
    """
    with transaction.atomic():
        lock_tree(membership.group)
        fresh = Membership.objects.unended(now).filter(pk=membership.pk).select_related("group").first()
        if fresh is None:
            return False
        _end(fresh, now)
        raise_rosters([fresh.group])
    return True


def lock_tree(group: Group) -> None:
    """Until this transaction ends nobody else changes who belongs to the tree of `group`.

    One place in a tree is a rule about several rows, so its parent row, the main group, is locked: without the key,
    or every insert of a membership would wait.
    """
    Group.objects.select_for_update(no_key=True).filter(pk=group.parent_id or group.pk).values_list(
        "pk"
    ).first()


def raise_rosters(groups: Iterable[Group]) -> None:
    """Releases to whoever these groups' members may hear from will look for late joiners. Call it under `lock_tree`."""
    Group.objects.reaching(groups).update(roster_version=F("roster_version") + 1)


def _end(membership: Membership, now: datetime) -> None:
    membership.ended_at = max(now, membership.started_at + INSTANT)
    membership.save(update_fields=["ended_at"])
