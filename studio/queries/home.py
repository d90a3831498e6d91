"""A creator at a glance: how far they have come, and how often they may write."""

from dataclasses import dataclass

from django.conf import settings
from django.db.models import Exists, F, OuterRef, Subquery
from django.db.models.functions import Coalesce

from distribution.models import Release
from groups.models import Creator, Group, Membership
from library.models import File
from messaging.models import Cadence


@dataclass(frozen=True)
class Begun:
    """How far a creator has come: the first-run checklist."""

    groups: bool
    members: bool
    bundles: bool
    releases: bool

    @property
    def complete(self) -> bool:
        return self.groups and self.members and self.bundles and self.releases


def begun(creator: Creator) -> Begun:
    """Which of the first steps are done, in one query."""
    files = File.objects.filter(version__bundle__creator=OuterRef("pk"))
    groups = Group.objects.filter(creator=OuterRef("pk"))
    # Looked for group by group, as a value, and in an order that only the index of each group has: otherwise the
    # database may go through everybody's memberships.
    somebody = Membership.objects.filter(group=OuterRef("pk")).order_by("recorded_at").values("pk")[:1]
    found = (
        Creator.objects.filter(pk=creator.pk)
        .values_list(
            Exists(groups),
            Exists(groups.alias(somebody=Subquery(somebody)).filter(somebody__isnull=False)),
            Exists(files),
            Exists(Release.objects.filter(creator=OuterRef("pk")).exclude(state=Release.State.DRAFT)),
        )
        .get()
    )
    return Begun(*found)


@dataclass(frozen=True)
class Limit:
    """How often a group may be written to: what its creator chose, and the ceiling the installation set."""

    group: Group
    week: int
    month: int
    ceiling_week: int
    ceiling_month: int


def limits(creator: Creator) -> list[Limit]:
    """The limits of every live group: one query, main groups with their sub groups below."""
    groups = creator.groups.live().select_related("parent", "cadence")
    in_trees = groups.order_by(Coalesce("parent__name", "name"), F("parent_id").asc(nulls_first=True), "name")
    return [limit_of(group) for group in in_trees]


def limit_of(group: Group) -> Limit:
    """A group nobody was written to yet has the installation's numbers."""
    try:
        cadence = group.cadence
    except Cadence.DoesNotExist:
        week, month = settings.CEILING_WEEK, settings.CEILING_MONTH
        return Limit(group, week, month, week, month)
    return Limit(
        group, cadence.chosen_week, cadence.chosen_month, cadence.ceiling_week, cadence.ceiling_month
    )
