"""Long lists: turned from the row one has come to, forwards and back, and nobody is left out or seen twice."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.http import QueryDict
from django.test import Client

from accounts.models import User
from distribution.models import Grant, Release
from groups.models import Creator, Group, Membership
from messaging.services import start_message
from studio.keyset import KeysetPage
from studio.queries import members, recipients
from studio.queries import members as members_module  # noqa: F401
from tests import factories
from tests.studio.conftest import url

SIZE = 4
Turned = Callable[[QueryDict], KeysetPage[Membership]]


def walk(turned: Turned) -> list[list[int]]:
    """The ids on each page, forwards to the end; the same pages must come on the way back."""
    asked, pages, names = QueryDict(), [], []
    while True:
        page = turned(asked)
        pages.append([row.pk for row in page])
        names.append(page)
        if page.after is None:
            break
        asked = QueryDict(f"after={page.after}")
        assert len(pages) < 100
    back = [pages[-1]]
    page = names[-1]
    while page.before is not None:
        page = turned(QueryDict(f"before={page.before}"))
        back.append([row.pk for row in page])
        assert len(back) < 100
    assert sorted({one for some in back for one in some}) == sorted(one for some in pages for one in some)
    return pages


@pytest.fixture
def crowd(patrons: Group, hobbyist: Group, collector: Group, now: datetime) -> list[Membership]:
    """Nineteen people in a main group and two tiers; most of them recorded by one import, at the same instant."""
    groups = [patrons, hobbyist, collector]
    return [
        factories.MembershipFactory.create(
            group=groups[number % 3],
            started_at=now - timedelta(days=9),
            recorded_at=now - timedelta(days=5 if number % 4 else number),
            ended_at=now + timedelta(days=3) if number % 5 == 0 else None,
        )
        for number in range(19)
    ]


def test_a_walk_through_a_group_sees_everybody_once_be_their_moments_the_same(
    patrons: Group, crowd: list[Membership], now: datetime
) -> None:
    pages = walk(lambda asked: members(patrons, asked, size=SIZE, now=now).page)
    seen = [number for page in pages for number in page]
    newest = sorted(crowd, key=lambda one: (one.recorded_at, one.pk), reverse=True)
    assert seen == [one.pk for one in newest]
    assert [len(page) for page in pages] == [4, 4, 4, 4, 3]


def test_a_walk_through_those_who_left_sees_everybody_once(
    patrons: Group, crowd: list[Membership], now: datetime
) -> None:
    gone = now - timedelta(days=1)
    Membership.objects.filter(pk__in=[one.pk for one in crowd[:11]]).update(ended_at=gone)
    pages = walk(lambda asked: members(patrons, asked, ended=True, size=SIZE, now=now).page)
    assert sorted(number for page in pages for number in page) == sorted(one.pk for one in crowd[:11])


def test_a_walk_through_a_search_of_a_long_list_sees_everybody_once(
    patrons: Group, crowd: list[Membership], now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if few were many: near rows first, then those whom the index finds."""
    for name, number in (("rosters.FEW", 3), ("search.NEAR", 5), ("search.FAR", 7), ("search.NOT_MANY", 2)):
        monkeypatch.setattr(f"studio.queries.{name}", number)
    for one in crowd[::2]:
        one.contact.name = "Zoë Quill"
        one.contact.save(update_fields=["name"])
    found = lambda asked: members(patrons, asked, q="quill", size=SIZE, now=now)  # noqa: E731
    pages = walk(lambda asked: found(asked).page)
    assert sorted(number for page in pages for number in page) == sorted(one.pk for one in crowd[::2])
    assert not found(QueryDict()).partly


def test_a_page_is_still_there_when_its_row_has_moved_and_past_the_end_comes_the_last(
    patrons: Group, crowd: list[Membership], now: datetime
) -> None:
    shown = lambda query: members(patrons, QueryDict(query), size=SIZE, now=now).page  # noqa: E731
    first = shown("")
    last_of_first = first.object_list[-1]
    after = [row.pk for row in shown(f"after={first.after}")]
    # Deep links work though that person left meanwhile.
    Membership.objects.filter(pk=last_of_first.pk).update(ended_at=now - timedelta(hours=1))
    assert [row.pk for row in shown(f"after={first.after}")] == after
    oldest = min(crowd, key=lambda one: (one.recorded_at, one.pk))
    past = shown(f"after={oldest.pk}")
    assert past.object_list[-1] == oldest
    assert past.after is None
    for nonsense in ("after=x", "after=-1", "before=99999999999999999999", "after=&before=", "page=7"):
        assert shown(nonsense).object_list[0].pk == first.object_list[0].pk


def test_less_than_a_page_before_a_row_is_the_beginning(
    patrons: Group, crowd: list[Membership], now: datetime
) -> None:
    newest = sorted(crowd, key=lambda one: (one.recorded_at, one.pk), reverse=True)
    page = members(patrons, QueryDict(f"before={newest[2].pk}"), size=SIZE, now=now).page
    assert [row.pk for row in page] == [one.pk for one in newest[:SIZE]]
    assert page.before is None


def test_the_links_keep_what_was_asked(studio: Client, patrons: Group, now: datetime) -> None:
    factories.MembershipFactory.create_batch(
        26, group=patrons, started_at=now - timedelta(days=900), recorded_at=now - timedelta(days=900)
    )
    page = studio.get(url("group", patrons.pk) + "?q=example&before=&page=4").content.decode()
    assert 'rel="next"' in page
    assert "q=example" in page.split('rel="next"')[1].split(">")[0]
    assert "26 people" in page
    assert "The beginning of the list" in page


@pytest.fixture
def release(creator: Creator, patrons: Group, owner: User, now: datetime) -> Release:
    """Given to thirteen people, six of whom redeemed it, most of them in the same instant."""
    release = factories.ReleaseFactory.create(creator=creator, groups=[patrons])
    for number in range(13):
        Grant.objects.create(
            release=release,
            contact=factories.ContactFactory.create(creator=creator, name=f"Person {number}"),
            granted_at=now,
            redeemed_at=now + timedelta(minutes=number // 5) if number % 2 else None,
        )
    return release


@pytest.mark.parametrize(("state", "number"), [("", 13), ("redeemed", 6), ("waiting", 7), ("library", 6)])
@pytest.mark.parametrize("q", ["", "person"])
@pytest.mark.parametrize("many", [False, True])
def test_a_walk_through_the_people_of_a_release_sees_everybody_once(
    release: Release, state: str, number: int, q: str, many: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if many:
        monkeypatch.setattr("studio.queries.people.FEW", -1)
        monkeypatch.setattr("studio.queries.search.NEAR", 3)
    message = start_message(release)
    pages = walk(
        lambda asked: recipients(release, message, asked, state=state, q=q, size=SIZE).page  # type: ignore[arg-type, return-value]
    )
    assert sum(map(len, pages)) == number
    assert len({one for page in pages for one in page}) == number
