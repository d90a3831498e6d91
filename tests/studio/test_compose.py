"""A new release: the page of steps, its refusals and its ways out."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from distribution.models import Release
from groups.models import Contact, Creator, Group
from library.models import Bundle
from messaging.models import Message, SendSlot
from tests import factories
from tests.studio.conftest import clock, url


@pytest.fixture
def bundle(creator: Creator) -> Bundle:
    return factories.BundleFactory.create(creator=creator, title="Dragon")


@pytest.fixture
def draft(studio: Client, bundle: Bundle) -> Release:
    studio.post(url("start_release"), {"bundle": bundle.pk})
    return Release.objects.get()


def revision_of(release: Release) -> int:
    """As the page that was just opened says it."""
    message = Message.objects.filter(release=release).first()
    return message.revision if message else 0


def filled(bundle: Bundle, *groups: Group, **changes: Any) -> dict[str, Any]:
    return {
        "title": "November",
        "bundles": [bundle.pk],
        "groups": [group.pk for group in groups],
        "rule": "at_publishing",
        "subject": "",
        "body": "Hello {first_name|friend}",
        "when": "now",
        "at": "",
        "request_id": str(uuid4()),
        "revision": revision_of(Release.objects.earliest("pk")),
        **changes,
    }


def state_of(release: Release) -> tuple[str, str]:
    release.refresh_from_db()
    return release.state, Message.objects.get(release=release).state


def test_a_draft_begins_with_the_bundle_one_came_from(draft: Release, bundle: Bundle) -> None:
    assert [item.bundle for item in draft.items.all()] == [bundle]


def test_the_page_of_steps_shows_the_bundles_groups_and_what_is_missing(
    studio: Client, draft: Release, patrons: Group
) -> None:
    page = studio.get(url("compose", draft.pk)).content.decode()
    assert "Dragon" in page
    assert "Patrons" in page
    assert "The message needs a subject." in page


def test_a_draft_is_saved_as_one_goes_and_htmx_gets_what_stands_beside_the_form(
    studio: Client, draft: Release, bundle: Bundle, patrons: Group, contact: Contact
) -> None:
    answer = studio.post(
        url("compose", draft.pk), filled(bundle, patrons), headers={"HX-Request": "true"}
    ).content.decode()
    assert "<html" not in answer
    assert "Saved" in answer
    assert "1</a></span><span>get it and a mail" in answer
    message = Message.objects.get(release=draft)
    assert (message.subject, message.body) == ("November", "Hello {first_name|friend}")


def test_without_scripts_saving_comes_back_to_the_page(
    studio: Client, draft: Release, bundle: Bundle, patrons: Group
) -> None:
    answer = studio.post(url("compose", draft.pk), filled(bundle, patrons))
    assert answer.status_code == 302
    draft.refresh_from_db()
    assert draft.title == "November"


def test_a_placeholder_that_does_not_exist_is_named_and_nothing_is_sent(
    studio: Client, draft: Release, bundle: Bundle, patrons: Group, contact: Contact
) -> None:
    page = studio.post(url("confirm_release", draft.pk), filled(bundle, patrons, body="Hi {nickname}"))
    assert "There is no placeholder {nickname}" in page.content.decode()
    assert state_of(draft) == ("draft", "draft")


def test_a_release_of_somebody_elses_bundle_or_group_is_refused(
    studio: Client, draft: Release, bundle: Bundle, patrons: Group
) -> None:
    foreign = factories.BundleFactory.create()
    page = studio.post(url("compose", draft.pk), filled(bundle, patrons, bundles=[foreign.pk]))
    assert "no longer there" in page.content.decode()
    page = studio.post(url("compose", draft.pk), filled(bundle, factories.GroupFactory.create()))
    assert "no longer there" in page.content.decode()
    assert [item.bundle for item in draft.items.all()] == [bundle]


def test_send_now_confirms_and_leads_to_the_release(
    studio: Client, draft: Release, bundle: Bundle, patrons: Group, contact: Contact
) -> None:
    answer = studio.post(url("confirm_release", draft.pk), filled(bundle, patrons))
    assert answer.headers["Location"] == url("release", draft.pk)
    assert state_of(draft) == ("confirmed", "confirmed")


def test_a_double_click_makes_one_message(
    studio: Client, draft: Release, bundle: Bundle, patrons: Group, contact: Contact
) -> None:
    form = filled(bundle, patrons)
    for _press in range(2):
        assert studio.post(url("confirm_release", draft.pk), form).status_code == 302
    assert SendSlot.objects.count() == 1


def test_nothing_attached_nobody_chosen_and_no_words_are_refused(
    studio: Client, draft: Release, bundle: Bundle, patrons: Group, contact: Contact
) -> None:
    empty = factories.BundleFactory.create(creator=bundle.creator, files=0)
    for changes, sentence in [
        ({"bundles": []}, "attach at least one bundle"),
        ({"bundles": [empty.pk]}, "attach at least one bundle"),
        ({"groups": []}, "No mail would go out"),
        ({"title": ""}, "needs a subject"),
    ]:
        page = studio.post(url("confirm_release", draft.pk), filled(bundle, patrons, **changes))
        assert sentence in page.content.decode()
        assert state_of(draft) == ("draft", "draft")
        assert not SendSlot.objects.exists()


def test_a_full_group_is_refused_with_the_ways_out(
    studio: Client, draft: Release, bundle: Bundle, patrons: Group, contact: Contact
) -> None:
    for _sent in range(2):
        studio.post(url("start_release"))
        studio.post(url("confirm_release", Release.objects.latest("pk").pk), filled(bundle, patrons))
    page = studio.post(url("confirm_release", draft.pk), filled(bundle, patrons)).content.decode()
    assert "at most 2 messages in any 7 days" in page
    assert "Schedule for" in page
    assert page.count("Publish without a mail") == 3
    assert state_of(draft) == ("draft", "draft")
    offer = page.split('name="offer" value="')[1].split('"')[0]
    assert (
        studio.post(url("confirm_release", draft.pk), filled(bundle, patrons, offer=offer)).status_code == 302
    )
    assert state_of(draft) == ("confirmed", "confirmed")


def test_a_release_is_scheduled_on_the_creators_clock(
    studio: Client, draft: Release, bundle: Bundle, patrons: Group, contact: Contact
) -> None:
    day = (timezone.now() + timedelta(days=3)).date()
    studio.post(url("confirm_release", draft.pk), filled(bundle, patrons, when="at", at=f"{day}T18:30"))
    draft.refresh_from_db()
    assert draft.publish_at is not None
    assert draft.publish_at.astimezone(draft.creator.zone).strftime("%F %H:%M") == f"{day} 18:30"


@pytest.mark.parametrize(
    ("at", "sentence"),
    [
        ("", "Choose a day and a time"),
        ("2020-01-01T10:00", "within a year"),
        ("9999-12-31T23:59", "within a year"),
        ("0001-01-01T00:00", "within a year"),
        ("next week", "Give a day and a time"),
    ],
)
def test_a_time_that_cannot_be_is_refused_in_words(
    studio: Client, draft: Release, bundle: Bundle, patrons: Group, contact: Contact, at: str, sentence: str
) -> None:
    page = studio.post(url("confirm_release", draft.pk), filled(bundle, patrons, when="at", at=at))
    assert sentence in page.content.decode()
    assert state_of(draft) == ("draft", "draft")


@pytest.mark.parametrize("offer", ["soon", "2026-11-26T14:00", "9999-12-31T23:59:00+00:00", "x" * 50])
def test_an_offer_that_was_not_made_is_refused(
    studio: Client, draft: Release, bundle: Bundle, patrons: Group, contact: Contact, offer: str
) -> None:
    assert (
        studio.post(url("confirm_release", draft.pk), filled(bundle, patrons, offer=offer)).status_code == 200
    )
    assert state_of(draft) == ("draft", "draft")


def test_publishing_without_a_mail_charges_no_slot(
    studio: Client, draft: Release, bundle: Bundle, patrons: Group, contact: Contact
) -> None:
    studio.post(url("publish_release", draft.pk), filled(bundle, patrons))
    assert state_of(draft) == ("confirmed", "draft")
    assert not SendSlot.objects.exists()


def test_publishing_nothing_is_refused(
    studio: Client, draft: Release, bundle: Bundle, patrons: Group, contact: Contact
) -> None:
    page = studio.post(url("publish_release", draft.pk), filled(bundle, patrons, bundles=[]))
    assert "attach at least one bundle" in page.content.decode()
    assert state_of(draft) == ("draft", "draft")


def test_a_scheduled_release_is_taken_back(
    studio: Client, draft: Release, bundle: Bundle, patrons: Group, contact: Contact
) -> None:
    studio.post(url("confirm_release", draft.pk), filled(bundle, patrons))
    assert "Take it back to a draft" in studio.get(url("release", draft.pk)).content.decode()
    studio.post(url("unschedule_release", draft.pk))
    assert state_of(draft) == ("draft", "draft")


def test_a_confirmed_release_is_not_composed_any_more(
    studio: Client, draft: Release, bundle: Bundle, patrons: Group, contact: Contact
) -> None:
    studio.post(url("confirm_release", draft.pk), filled(bundle, patrons))
    studio.post(url("compose", draft.pk), filled(bundle, patrons, title="Another"))
    draft.refresh_from_db()
    assert draft.title == "November"


def test_the_preview_is_the_mail_alone_and_can_run_nothing(
    studio: Client, draft: Release, bundle: Bundle, patrons: Group, contact: Contact
) -> None:
    studio.post(url("compose", draft.pk), filled(bundle, patrons))
    answer = studio.get(url("preview_mail", draft.pk), {"as": contact.pk})
    assert "Hello Mia" in answer.content.decode()
    policy = answer.headers["Content-Security-Policy"]
    assert "sandbox" in policy
    assert "default-src 'none'" in policy
    assert "script-src" not in policy


def test_somebody_elses_contact_is_no_reader_of_the_preview(
    studio: Client, draft: Release, bundle: Bundle, patrons: Group, contact: Contact
) -> None:
    foreign = factories.ContactFactory.create(name="Zoe Foreign")
    studio.post(url("compose", draft.pk), filled(bundle, patrons))
    for number in [foreign.pk, "x", "-1", 2**70]:
        assert "Zoe" not in studio.get(url("preview_mail", draft.pk), {"as": number}).content.decode()


def test_the_people_of_each_part_of_the_check_are_named(
    studio: Client, draft: Release, bundle: Bundle, patrons: Group, contact: Contact
) -> None:
    studio.post(url("compose", draft.pk), filled(bundle, patrons))
    assert "Mia Berg" in studio.get(url("check_part", draft.pk, "mailed")).content.decode()
    assert "Nobody" in studio.get(url("check_part", draft.pk, "suppressed")).content.decode()
    assert studio.get(url("check_part", draft.pk, "everything")).status_code == 404


def test_a_test_goes_to_the_one_who_asks(
    studio: Client, draft: Release, bundle: Bundle, patrons: Group, mailoutbox: list[Any]
) -> None:
    page = studio.post(url("send_test", draft.pk), filled(bundle, patrons), follow=True).content.decode()
    assert "A test is on its way to ana@forge.example" in page
    assert not SendSlot.objects.exists()


def test_a_draft_is_deleted_after_a_question(studio: Client, draft: Release) -> None:
    studio.get(url("compose", draft.pk))
    assert "Delete the draft" in studio.get(url("delete_draft", draft.pk)).content.decode()
    assert Release.objects.exists()
    studio.post(url("delete_draft", draft.pk))
    assert not Release.objects.exists()
    assert studio.post(url("delete_draft", draft.pk)).status_code == 404


def test_the_page_of_steps_asks_the_same_for_one_of_each_and_for_three(
    studio: Client, draft: Release, creator: Creator, hobbyist: Group, queries_of: Callable[[str], int]
) -> None:
    page, bundles, groups = (
        url("compose", draft.pk),
        [factories.BundleFactory.create(creator=creator)],
        [hobbyist],
    )
    factories.MembershipFactory.create(group=hobbyist)
    studio.post(page, filled(bundles[0], hobbyist))
    first = queries_of(page)
    for _number in range(2):
        bundles.append(factories.BundleFactory.create(creator=creator))
        groups.append(factories.GroupFactory.create(creator=creator))
        factories.MembershipFactory.create(group=groups[-1])
        factories.MembershipFactory.create(group=hobbyist)
    chosen = {"bundles": [bundle.pk for bundle in bundles], "groups": [group.pk for group in groups]}
    studio.post(page, filled(bundles[0], hobbyist, **chosen))
    assert draft.items.count() == draft.audience_rows.count() == 3
    assert queries_of(page) == first


@pytest.mark.parametrize("number", ["x", "-1", "0", str(2**63), str(10**30), "١٢", "\x00"])
def test_numbers_that_are_none_are_refused_in_words(
    studio: Client, draft: Release, bundle: Bundle, patrons: Group, number: str
) -> None:
    for name in ["bundles", "groups"]:
        page = studio.post(url("compose", draft.pk), filled(bundle, patrons, **{name: [number]}))
        assert page.status_code == 200, name
        assert "errorlist" in page.content.decode()
    assert studio.post(url("start_release"), {"bundle": number}).status_code == 302
    page = studio.post(url("compose", draft.pk), filled(bundle, patrons, **{"as": number}))
    assert page.status_code == 302


@pytest.mark.parametrize("typed", ["\x00", "x" * 20_001])
def test_words_that_cannot_be_stored_are_refused(
    studio: Client, draft: Release, bundle: Bundle, patrons: Group, typed: str
) -> None:
    for name in ["title", "subject", "body"]:
        page = studio.post(url("compose", draft.pk), filled(bundle, patrons, **{name: typed}))
        assert "errorlist" in page.content.decode(), name
    draft.refresh_from_db()
    assert draft.title == ""


HTMX = {"HX-Request": "true"}


def test_the_check_is_of_the_time_that_is_chosen(
    studio: Client, draft: Release, bundle: Bundle, patrons: Group, contact: Contact
) -> None:
    for _sent in range(2):
        studio.post(url("start_release"))
        studio.post(url("confirm_release", Release.objects.latest("pk").pk), filled(bundle, patrons))
    now = studio.post(url("compose", draft.pk), filled(bundle, patrons), headers=HTMX).content.decode()
    assert "No mail can go out at that time" in now
    day = timezone.now() + timedelta(days=20)
    later = filled(bundle, patrons, when="at", at=clock(day))
    answer = studio.post(url("compose", draft.pk), later, headers=HTMX).content.decode()
    assert "No mail can go out at that time" not in answer
    half = filled(bundle, patrons, when="at", at="")
    assert "No mail can go out" in studio.post(url("compose", draft.pk), half, headers=HTMX).content.decode()
