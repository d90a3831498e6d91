"""Groups and their sub groups, and what belonging to one means."""

from dataclasses import dataclass
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import Count, F, Q, QuerySet, Value
from django.db.models.functions import Greatest
from django.utils.translation import gettext as _

from groups.imports.values import read_name
from groups.models import Contact, Creator, Group, Import, Membership
from groups.services.memberships import INSTANT, lock_tree, raise_rosters


class GroupNameTaken(Exception):
    """The creator, or the main group, has a live group of this name."""


class OneLevelOnly(Exception):
    """Sub groups have no sub groups, and an archived group gets none."""


class NameMissing(Exception):
    """A group needs a name."""


class ImportUnderway(Exception):
    """An import into this group is being applied; wait until it is done."""


@dataclass(frozen=True)
class Gains:
    """What being added to `group` means for some contacts (P3), as far as belonging goes.

    `hears_from` are the groups whose releases would reach them: those of `group` itself, of its main group, and
    for a main group of every sub group. The studio counts the bundles of these that are given to late joiners.
    """

    group: Group
    hears_from: list[Group]
    joining: int
    there_already: int
    leaving: dict[Group, int]  # groups of the same tree whose memberships would end


def create_group(
    creator: Creator, *, name: str, kind: str, parent: Group | None = None, now: datetime
) -> Group:
    """A new group of `creator`; with `parent` a sub group, which takes its parent's kind.

    Twice: refused the second time. Raises `GroupNameTaken`, `OneLevelOnly`, `NameMissing`, `ValueRefused`.
    """
    if parent and (parent.creator_id != creator.pk or parent.parent_id or parent.archived_at):
        raise OneLevelOnly(_("A sub group lies in a main group of yours, one level deep."))
    try:
        with transaction.atomic():
            return Group.objects.create(
                creator=creator,
                name=_clean_name(name),
                kind=parent.kind if parent else kind,
                parent=parent,
                created_at=now,
            )
    except IntegrityError:
        raise GroupNameTaken(_("You have a group of that name already.")) from None


def rename_group(group: Group, *, name: str) -> None:
    """The group is called `name`. Twice: nothing changes. Raises `GroupNameTaken`, `NameMissing`, `ValueRefused`."""
    clean = _clean_name(name)
    try:
        with transaction.atomic():
            Group.objects.filter(pk=group.pk).update(name=clean)
    except IntegrityError:
        raise GroupNameTaken(_("You have a group of that name already.")) from None
    group.name = clean


def archive_group(group: Group, *, now: datetime) -> int:
    """The group and its sub groups are archived and their memberships have ended; grants stay.

    Returns how many memberships ended. Twice: 0. Raises `ImportUnderway`.
    """
    with transaction.atomic():
        lock_tree(group)
        if Import.objects.filter(group=group.parent_id or group.pk, state=Import.State.APPLYING).exists():
            raise ImportUnderway(_("An import into this group is being applied. Wait until it is done."))
        branch = Group.objects.live().filter(Q(pk=group.pk) | Q(parent=group.pk))
        raise_rosters(branch)
        ended = (
            Membership.objects.unended(now)
            .filter(group__in=branch)
            .update(ended_at=Greatest(Value(now), F("started_at") + INSTANT))
        )
        branch.update(archived_at=now)
    return ended


def who_gains_what(group: Group, contacts: QuerySet[Contact], *, now: datetime) -> Gains:
    """What adding `contacts` to `group` would mean; writes nothing. Four queries, however many contacts."""
    held = Membership.objects.unended(now).in_tree(group).filter(contact__in=contacts)
    people = dict(held.values_list("group").annotate(people=Count("contact", distinct=True)).order_by())
    there = people.pop(group.pk, 0)
    left = Group.objects.filter(pk__in=people).select_related("parent")
    return Gains(
        group=group,
        hears_from=list(Group.objects.reaching([group]).select_related("parent")),
        joining=contacts.count() - there,
        there_already=there,
        leaving={other: people[other.pk] for other in left},
    )


def _clean_name(name: str) -> str:
    clean = read_name(name).text[: Group._meta.get_field("name").max_length]
    if not clean:
        raise NameMissing(_("Give the group a name."))
    return clean
