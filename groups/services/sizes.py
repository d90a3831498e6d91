"""How many belong to a group: counted when somebody asks, and of large groups by a worker as soon as it changed.

Nobody who starts or ends a membership keeps a number: a planned end comes by itself, and a number that many hands keep
goes wrong unseen. Each of them raises the roster's version, and that says whose number is out of date.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db.models import Count, F, Q

from groups.models import Group, Membership

# So many are counted while a page is made: some milliseconds.
FEW = 10_000
# Then those whose planned day came meanwhile are counted too.
KEEPS_FOR = timedelta(minutes=10)


def count_people(group_id: int, *, now: datetime) -> int:
    """How many belong to this group itself at `now`; of a large one it is kept. Twice: the same."""
    # The version first: whoever joins while we count has raised it, and it is counted again.
    version = Group.objects.values_list("roster_version", flat=True).get(pk=group_id)
    people = Membership.objects.live(now).filter(group=group_id).count()
    Group.objects.filter(pk=group_id).update(
        people=people if people > FEW else None, counted_version=version, counted_at=now
    )
    return people


def groups_to_count(now: datetime) -> list[int]:
    """The ids of the groups of which somebody joined or left since they were counted, or may have by the calendar."""
    changed = ~Q(counted_version=F("roster_version"))
    aged = Q(people__isnull=False, counted_at__lte=now - KEEPS_FOR)
    return list(Group.objects.live().filter(changed | aged).order_by("pk").values_list("pk", flat=True))


def people_of(groups: Iterable[Group], *, now: datetime) -> dict[int, int]:
    """How many belong to each of `groups` itself, by its id: one query for those that nobody has counted."""
    groups = list(groups)
    known = {group.pk: group.people for group in groups if group.people is not None}
    unknown = [group.pk for group in groups if group.people is None]
    counted = Membership.objects.live(now).filter(group__in=unknown).order_by()
    return {**known, **dict(counted.values_list("group").annotate(Count("pk")))}
