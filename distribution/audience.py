"""Who gets what: the one definition, for the dry run, the fan-out and late joiners alike."""

from datetime import datetime

from django.db.models import Max, Min, OuterRef, QuerySet, Subquery

from distribution.models import Release
from groups.models import Contact, Group, Membership


def audience(
    release: Release, as_of: datetime, *, after: int = 0, until: int | None = None
) -> QuerySet[Contact]:
    """The contacts that `release` is for, as the rosters stood at `as_of`: each once, in no order.

    Those with a live membership in a group that the named groups reach (P3); archived groups reach nobody. What
    was recorded after `as_of` does not count, even if it is dated before: an import in the middle of a fan-out
    changes nobody's share. `after` and `until` keep to the contacts with after < id <= until, in the memberships
    too: a page is a range of `membership_by_group` and of the contacts' key, whatever the planner knows.
    """
    belonging = Membership.objects.live(as_of).filter(
        group__in=reached_groups(release), recorded_at__lte=as_of, contact__gt=after
    )
    contacts = Contact.objects.filter(pk__gt=after)
    if until is not None:
        belonging = belonging.filter(contact__lte=until)
        contacts = contacts.filter(pk__lte=until)
    return contacts.filter(pk__in=belonging.values("contact"))


def page_end(release: Release, as_of: datetime, *, after: int, page: int) -> int | None:
    """The id that ends the next page of at most `page` contacts after `after`; None when nobody is left.

    Each group says where its own next `page` memberships end, by index; before the nearest of these ends no group
    has more than a page. So a step reads at most a page a group, never the rest of a million.
    """
    nth = Membership.objects.filter(group=OuterRef("pk"), contact__gt=after).order_by("contact")
    step = (
        Group.objects.filter(pk__in=reached_groups(release))
        .annotate(end=Subquery(nth.values("contact")[page - 1 : page]))
        .aggregate(step=Min("end"))["step"]
    )
    within = audience(release, as_of, after=after, until=step).order_by("pk").values("pk")
    last: int | None = within[:page].aggregate(end=Max("pk"))["end"]
    # Nobody live in the step: go on after it.
    return last or step


def reached_groups(release: Release) -> list[int]:
    """The groups whose members get it (P3). Ids, not a subquery: then the planner knows how large they are."""
    named = Group.objects.filter(release_rows__release=release)
    return list(Group.objects.reaching(named).order_by().values_list("pk", flat=True))
