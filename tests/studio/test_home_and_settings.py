"""Becoming a creator, the first page, and the settings."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.conf import LazySettings
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from distribution.models import Release
from groups.models import Contact, Creator, Group
from messaging.models import Cadence
from tests import factories
from tests.studio.conftest import fill_in, url

ClientOf = Callable[[User | None], Client]
START = reverse("studio:start")


def details(**changes: str) -> dict[str, str]:
    return {
        "name": "Mia's Models",
        "slug": "",
        "time_zone": "Europe/Vienna",
        "reply_to": "Hello@Mia.example",
        "postal_address": "1 Mill Lane",
        **changes,
    }


def test_who_runs_one_studio_is_led_straight_there(studio: Client, owner: User) -> None:
    assert studio.get(START)["Location"] == url("home")
    page = studio.get(f"{START}?new").content.decode()
    assert "Start another studio" in page
    assert '<details class="panel" open>' in page
    studio.post(f"{START}?new", details())
    both = studio.get(START).content.decode()
    assert "Ana&#x27;s Forge" in both
    assert "Mia&#x27;s Models" in both


def test_where_creators_are_invited_nobody_is_offered_another_studio(
    studio: Client, settings: LazySettings
) -> None:
    assert "?new" in studio.get(url("home")).content.decode()
    settings.CREATORS = "invited"
    assert "?new" not in studio.get(url("home")).content.decode()


def test_the_form_proposes_the_own_address(client_of: ClientOf, member: User) -> None:
    page = client_of(member).get(START).content.decode()
    assert "Become a creator" in page
    assert 'value="mia@example.org"' in page


def test_one_form_makes_a_creator_with_an_address_made_from_the_name(
    client_of: ClientOf, member: User
) -> None:
    answer = client_of(member).post(START, details())
    creator = Creator.objects.run_by(member).get()
    assert answer.headers["Location"] == reverse("studio:home", args=["mias-models"])
    assert (creator.slug, creator.reply_to, creator.time_zone) == (
        "mias-models",
        "hello@mia.example",
        "Europe/Vienna",
    )
    assert creator.approved_at is not None


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "龍"}, "slug"),
        ({"slug": "anas-forge"}, "slug"),
        ({"slug": "../../x"}, "slug"),
        ({"time_zone": "../../etc/passwd"}, "time_zone"),
        ({"time_zone": "Mars/Base"}, "time_zone"),
        ({"reply_to": "a@localhost"}, "reply_to"),
        ({"postal_address": "  "}, "postal_address"),
    ],
)
def test_what_cannot_be_is_said_beside_its_field(
    client_of: ClientOf, member: User, creator: Creator, changes: dict[str, str], field: str
) -> None:
    page = client_of(member).post(START, details(**changes)).content.decode()
    assert f'id="id_{field}_error"' in page
    assert not Creator.objects.run_by(member).exists()


def test_a_name_that_would_break_a_mail_is_refused(client_of: ClientOf, member: User) -> None:
    client_of(member).post(START, details(name="Mia\r\nBcc: x@example.org", slug="mia"))
    assert not Creator.objects.filter(name__contains="\n").exists()


def test_where_creators_are_approved_the_waiting_is_said(
    client_of: ClientOf, member: User, settings: LazySettings
) -> None:
    settings.CREATORS = "approved"
    browser = client_of(member)
    assert "approves you before your first release" in browser.get(START).content.decode()
    assert "Waiting for approval" in browser.post(START, details(), follow=True).content.decode()
    assert "waiting for approval" in browser.get(f"{START}?new").content.decode().lower()


def test_where_creators_are_invited_there_is_no_form(
    client_of: ClientOf, member: User, settings: LazySettings
) -> None:
    settings.CREATORS = "invited"
    browser = client_of(member)
    assert "Creators are invited here" in browser.get(START).content.decode()
    browser.post(START, details())
    assert not Creator.objects.exists()


def test_the_checklist_goes_away_when_all_of_it_is_done(
    studio: Client, creator: Creator, contact: Contact, hobbyist: Group
) -> None:
    begun = studio.get(url("home")).content.decode()
    assert "From here to your first release" in begun
    assert "Fill a bundle" in begun
    bundle = factories.BundleFactory.create(creator=creator)
    now = timezone.now()
    factories.ReleaseFactory.create(
        creator=creator, bundles=[bundle], state=Release.State.CONFIRMED, publish_at=now + timedelta(days=1)
    )
    done = studio.get(url("home")).content.decode()
    assert "From here to your first release" not in done
    assert "Next" in done


def test_a_paused_studio_is_told(studio: Client, creator: Creator) -> None:
    Creator.objects.update(paused_at=timezone.now())
    assert "Sending is paused" in studio.get(url("home")).content.decode()


def test_home_asks_the_same_for_one_and_for_three(
    creator: Creator, hobbyist: Group, queries_of: Callable[[str], int]
) -> None:
    def one_more() -> None:
        factories.MembershipFactory.create(group=hobbyist)
        factories.GroupFactory.create(creator=creator)
        for state in Release.State.values:
            moments = dict.fromkeys(["publish_at", "as_of", "recalled_at"], timezone.now())
            factories.ReleaseFactory.create(creator=creator, state=state, **moments)

    one_more()
    pages = [url("home"), url("releases"), url("settings")]
    first = [queries_of(page) for page in pages]
    one_more()
    one_more()
    assert [queries_of(page) for page in pages] == first


def test_the_profile_is_changed(studio: Client, creator: Creator) -> None:
    fill_in(studio, url("settings"), details(name="Ana Casts"))
    creator.refresh_from_db()
    assert (creator.name, creator.slug, creator.time_zone) == ("Ana Casts", "anas-forge", "Europe/Vienna")


def test_a_profile_that_is_refused_stays_as_it_was(studio: Client, creator: Creator) -> None:
    page = fill_in(studio, url("settings"), details(name="Changed", reply_to="nobody")).content.decode()
    assert "errorlist" in page
    assert '<p class="menu-title">Ana&#x27;s Forge</p>' in page
    creator.refresh_from_db()
    assert creator.name == "Ana's Forge"


def test_a_creator_chooses_fewer_messages_but_never_more_than_the_ceiling(
    studio: Client, patrons: Group
) -> None:
    assert "The ceiling is 2 in any 7 days and 6" in studio.get(url("set_pace", patrons.pk)).content.decode()
    fill_in(studio, url("set_pace", patrons.pk), {"week": 1, "month": 3})
    assert "1 of 2" in studio.get(url("settings")).content.decode()
    for week, month in [(3, 3), (0, 1), (-5, 1), (10**30, 1), ("x", 1), ("", "")]:
        page = fill_in(studio, url("set_pace", patrons.pk), {"week": week, "month": month})
        assert "errorlist" in page.content.decode()
    cadence = Cadence.objects.get(group=patrons)
    assert (cadence.chosen_week, cadence.chosen_month) == (1, 3)


def test_the_browsers_zone_is_proposed_to_a_newcomer_and_never_over_a_choice(
    member: User, owner: User, creator: Creator, client_of: ClientOf
) -> None:
    assert b"data-propose-zone" in client_of(member).get(START).content
    assert b"data-propose-zone" not in client_of(member).post(START, {"time_zone": "Europe/Vienna"}).content
    assert (
        b"data-propose-zone"
        not in client_of(owner).get(reverse("studio:settings", args=[creator.slug])).content
    )
