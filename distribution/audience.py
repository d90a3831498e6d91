"""Who gets what: the one definition, for the dry run, the fan-out and late joiners alike."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from django.db.models import Min, OuterRef, QuerySet, Subquery

from distribution.models import Release
from groups.models import Contact, Group, Membership


def audience(release: Release, as_of: datetime) -> QuerySet[Contact]:
    """The contacts that `release` is for, as the rosters stood at `as_of`: each once, in no order.

    Those with a live membership in a group that the named groups reach (P3); archived groups reach nobody. What
    was recorded after `as_of` does not count, even if it is dated before: an import in the middle of a fan-out
    changes nobody's share.
    """
    return members_of(reached_groups(release), as_of)


def reached_groups(release: Release) -> list[int]:
    """The groups whose members get it (P3). Ids, not a subquery: then the planner knows how large they are."""
    return list(roster_versions(release))


def roster_versions(release: Release) -> dict[int, int]:
    """The roster version of each group whose members get it. The same twice: nobody joined or left between."""
    named = Group.objects.filter(release_rows__release=release)
    return dict(Group.objects.reaching(named).order_by().values_list("pk", "roster_version"))


def members_of(
    groups: Sequence[int], as_of: datetime, *, after: int = 0, until: int | None = None
) -> QuerySet[Contact]:
    """`audience` from groups already found, and a page of it: the contacts with `after` < id <= `until`.

    The range binds the memberships too: a page reads a range of an index, whatever the planner thinks of the join.
    """
    belonging = Membership.objects.live(as_of).filter(
        group__in=groups, recorded_at__lte=as_of, contact__gt=after
    )
    contacts = Contact.objects.filter(pk__gt=after)
    if until is not None:
        belonging = belonging.filter(contact__lte=until)
        contacts = contacts.filter(pk__lte=until)
    return contacts.filter(pk__in=belonging.values("contact"))


def in_pieces(release: Release, as_of: datetime, *, first: int = 1_000) -> Iterator[QuerySet[Contact]]:
    """`audience` in disjoint pieces, each ten times the one before: for whoever looks for one person of a kind.

    The database plans for the whole of what it is asked, even if the first row would do.
    """
    groups, after = reached_groups(release), 0
    while (until := next_stop(groups, after=after, page=first)) is not None:
        yield members_of(groups, as_of, after=after, until=until)
        after, first = until, 10 * first
    yield members_of(groups, as_of, after=after)


def next_stop(groups: Sequence[int], *, after: int, page: int) -> int | None:
    """A contact's id up to which no group has more than `page` memberships after `after`; None: no group has more.

    Each group says by `membership_by_group` where its next `page` end, and the nearest counts. So the next `page`
    contacts are found in at most `page` memberships a group, however many come after them.
    """
    nth = Membership.objects.filter(group=OuterRef("pk"), contact__gt=after).order_by("contact")
    ends = Group.objects.filter(pk__in=groups).annotate(end=Subquery(nth.values("contact")[page - 1 : page]))
    nearest: int | None = ends.aggregate(nearest=Min("end"))["nearest"]
    return nearest
