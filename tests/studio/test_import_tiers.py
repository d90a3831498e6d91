"""An import into a group without sub groups: each tier may become one, by one press, and in the group's own words."""

import pytest
from django.test import Client
from django.utils import timezone

from groups.models import Group, Import
from groups.services import archive_group, check_import, summarise
from tests.factories import GroupFactory
from tests.studio.conftest import url
from tests.studio.test_imports import PATREON, as_proposed, file_of

pytestmark = pytest.mark.django_db


def open_file(studio: Client, group: Group, text: str = PATREON) -> Import:
    studio.post(url("open_import", group.pk), {"file": file_of(text)})
    return Import.objects.latest("pk")


def subs(group: Group) -> set[str]:
    return set(group.sub_groups.values_list("name", flat=True))


def test_one_press_makes_a_sub_group_of_every_tier_without_one(studio: Client, patrons: Group) -> None:
    run = open_file(studio, patrons)
    page = studio.get(url("choose_mapping", run.pk)).content.decode()
    assert "Make a sub group of each tier without a group" in page
    assert subs(patrons) == set()
    studio.post(url("choose_mapping", run.pk), {**as_proposed(run), "all_own": "1"})
    assert subs(patrons) == {"Hobbyist", "Collector"}
    check_import(run.pk, now=timezone.now())
    run.refresh_from_db()
    assert summarise(run).verdicts["unmapped"] == 0
    assert summarise(run).verdicts["new"] == 2
    # Twice: they are there, and the button is gone.
    studio.post(url("choose_mapping", run.pk), {**as_proposed(run), "all_own": "1"})
    assert subs(patrons) == {"Hobbyist", "Collector"}
    assert "all_own" not in studio.get(url("choose_mapping", run.pk)).content.decode()


def test_one_tier_may_become_a_sub_group_and_another_be_skipped(studio: Client, patrons: Group) -> None:
    run = open_file(studio, patrons)
    tiers = list(run.survey["tiers"])
    chosen = {
        f"tier-{number}": "own" if tier == "Hobbyist" else "skip" for number, (tier, _) in enumerate(tiers)
    }
    studio.post(url("choose_mapping", run.pk), {**as_proposed(run), **chosen})
    assert subs(patrons) == {"Hobbyist"}
    check_import(run.pk, now=timezone.now())
    run.refresh_from_db()
    assert summarise(run).verdicts["unmapped"] == 1


def test_pressed_twice_before_the_answer_came_it_makes_none_twice(studio: Client, patrons: Group) -> None:
    run = open_file(studio, patrons)
    pressed = {**as_proposed(run), "all_own": "1"}
    for _twice in range(2):
        assert studio.post(url("choose_mapping", run.pk), pressed).status_code == 302
        run.refresh_from_db()
        assert set(run.mapping["tiers"].values()) == set(patrons.sub_groups.values_list("pk", flat=True))
    assert subs(patrons) == {"Hobbyist", "Collector"}


def test_people_without_a_tier_get_no_group_by_it(studio: Client, patrons: Group) -> None:
    run = open_file(studio, patrons, PATREON.replace("Collector", ""))
    studio.post(url("choose_mapping", run.pk), {**as_proposed(run), "all_own": "1"})
    assert subs(patrons) == {"Hobbyist"}
    check_import(run.pk, now=timezone.now())
    run.refresh_from_db()
    assert summarise(run).verdicts["unmapped"] == 1


def test_a_tier_called_like_an_archived_group_gets_a_new_one(studio: Client, patrons: Group) -> None:
    old = GroupFactory.create(creator=patrons.creator, parent=patrons, name="Hobbyist")
    archive_group(old, now=timezone.now())
    run = open_file(studio, patrons)
    studio.post(url("choose_mapping", run.pk), {**as_proposed(run), "all_own": "1"})
    run.refresh_from_db()
    live = patrons.sub_groups.live()
    assert set(run.mapping["tiers"].values()) == set(live.values_list("pk", flat=True))
    assert sorted(live.values_list("name", flat=True)) == ["Collector", "Hobbyist"]


def test_a_tier_that_no_group_can_be_called_makes_none_at_all(studio: Client, patrons: Group) -> None:
    # A group's name has 80 letters: these two would be called alike.
    alike = PATREON.replace("Hobbyist", "C" * 80 + "a").replace("Collector", "C" * 80 + "b")
    run = open_file(studio, patrons, alike)
    page = studio.post(url("choose_mapping", run.pk), {**as_proposed(run), "all_own": "1"}).content.decode()
    assert "No sub group can be made of" in page
    assert subs(patrons) == set()


def test_an_import_that_is_applied_makes_no_groups(studio: Client, patrons: Group) -> None:
    run = open_file(studio, patrons)
    Import.objects.filter(pk=run.pk).update(state="applying")
    studio.post(url("choose_mapping", run.pk), {**as_proposed(run), "all_own": "1"})
    assert subs(patrons) == set()


@pytest.mark.parametrize(
    ("kind", "who"),
    [
        ("patrons", "patron"),
        ("tribers", "triber"),
        ("pioneers", "pioneer"),
        ("backers", "backer"),
        ("other", "person"),
    ],
)
def test_the_words_fit_the_groups_kind(studio: Client, patrons: Group, kind: str, who: str) -> None:
    Group.objects.filter(pk=patrons.pk).update(kind=kind)
    run = open_file(studio, patrons)
    page = studio.get(url("choose_mapping", run.pk)).content.decode()
    assert f"A {who} goes into the group of their" in page
    assert ("patron goes" in page) == (kind == "patrons")
