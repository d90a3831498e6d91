"""Who gets what, against a plain reading of the rule."""

from datetime import datetime, timedelta
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import User
from distribution import services
from distribution.audience import audience, in_pieces
from distribution.models import Grant, Release, ReleaseAudience
from groups.models import Contact, Creator, Group
from library.models import Holding
from tests import factories
from tests.distribution.conftest import undone

HOURS = st.integers(-3, 3)


class Belonging(NamedTuple):
    group: int
    contact: int
    started: int
    ended: int | None
    recorded: int


class World(NamedTuple):
    """A forest one level deep, and who belonged where, in hours around the due moment."""

    parents: list[int | None]
    archived: list[bool]
    contacts: int
    with_account: list[bool]
    belongings: list[Belonging]
    named: list[int]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    parents: list[int | None] = []
    for number in range(draw(st.integers(1, 6))):
        mains = [i for i in range(number) if parents[i] is None]
        parents.append(draw(st.sampled_from([None, *mains])))
    groups = range(len(parents))
    contacts = draw(st.integers(0, 8))
    belongings = [
        Belonging(group, contact, started, draw(st.none() | st.integers(started + 1, 5)), draw(HOURS))
        for group in groups
        for contact in range(contacts)
        if draw(st.integers(0, 2)) == 0
        for started in [draw(HOURS)]
    ]
    return World(
        parents,
        [draw(st.integers(0, 4)) == 0 for _ in groups],
        contacts,
        [draw(st.booleans()) for _ in range(contacts)],
        belongings,
        draw(st.lists(st.sampled_from(list(groups)), unique=True, min_size=1)),
    )


def expected(world: World) -> set[int]:
    """The rule as product.md says it (P3), read by hand."""
    reached = set()
    for name in world.named:
        for group, parent in enumerate(world.parents):
            own, below, above = group == name, parent == name, world.parents[name] == group
            if (own or below or above) and not world.archived[group]:
                reached.add(group)
    return {
        b.contact
        for b in world.belongings
        if b.group in reached and b.started <= 0 and (b.ended is None or b.ended > 0) and b.recorded <= 0
    }


def build(world: World, creator: Creator, now: datetime) -> tuple[Release, list[Contact]]:
    hour = timedelta(hours=1)
    groups: list[Group] = []
    for parent, archived in zip(world.parents, world.archived, strict=True):
        groups.append(
            factories.GroupFactory.create(
                creator=creator,
                parent=None if parent is None else groups[parent],
                archived_at=now if archived else None,
            )
        )
    contacts = [
        factories.ContactFactory.create(
            creator=creator, account=factories.UserFactory.create() if known else None
        )
        for known in world.with_account
    ]
    for b in world.belongings:
        factories.MembershipFactory.create(
            group=groups[b.group],
            contact=contacts[b.contact],
            started_at=now + b.started * hour,
            ended_at=None if b.ended is None else now + b.ended * hour,
            recorded_at=now + b.recorded * hour,
        )
    release = factories.ReleaseFactory.create(
        creator=creator,
        bundles=[factories.BundleFactory.create(creator=creator)],
        groups=[groups[name] for name in world.named],
    )
    return release, contacts


@pytest.mark.django_db
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(world=worlds(), page=st.integers(1, 5))
def test_the_fan_out_gives_exactly_what_the_audience_says(
    creator: Creator, owner: User, now: datetime, world: World, page: int
) -> None:
    with undone():
        release, contacts = build(world, creator, now)
        entitled = {contacts[number].pk for number in expected(world)}
        assert {contact.pk for contact in audience(release, now)} == entitled
        assert audience(release, now).count() == len(entitled)
        pieces = [contact.pk for piece in in_pieces(release, now, first=page) for contact in piece]
        assert sorted(pieces) == sorted(entitled)
        Release.objects.filter(pk=release.pk).update(state="confirmed", publish_at=now)
        for item in release.items.all():
            item.version = item.bundle.versions.get()
            item.save()
        assert services.fan_out_grants(release.pk, now=now + timedelta(days=1), page=page)
        release.refresh_from_db()
        grants = list(Grant.objects.select_related("contact"))
        assert {grant.contact_id for grant in grants} == entitled
        assert len(grants) == release.granted == len(entitled)
        known = {grant.contact.account_id for grant in grants if grant.contact.account_id}
        assert {holding.entry.user_id for holding in Holding.objects.select_related("entry")} == known
        assert release.held == len(known)


@pytest.mark.django_db
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(world=worlds())
def test_the_version_of_an_audience_is_that_of_the_groups_it_reaches(
    creator: Creator, now: datetime, world: World
) -> None:
    with undone():
        release, _contacts = build(world, creator, now)
        for number, group in enumerate(Group.objects.order_by("pk")):
            group.roster_version = 10**number
            group.save()
        for row in ReleaseAudience.objects.filter(release=release).with_version():
            reached = Group.objects.reaching([row.group])
            assert row.version == sum(group.roster_version for group in reached)
