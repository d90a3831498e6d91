"""What no page of ours sends: numbers no row has, signs no name has."""

from datetime import timedelta
from datetime import timezone as fixed_zone
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from distribution.models import ReleaseItem
from groups.models import Creator, Group
from messaging.services import start_message
from tests.factories import BundleFactory, ReleaseFactory
from tests.studio.conftest import fill_in, url

FAR_ZONE = fixed_zone(-timedelta(hours=23, minutes=59))
NO_NUMBERS = ["9" * 30, "9" * 5000, str(2**63), "0", "-1", "²", "\x00", "NaN"]


@pytest.mark.parametrize("number", NO_NUMBERS)
def test_a_draft_cannot_be_started_with_a_bundle_that_cannot_be(studio: Client, number: str) -> None:
    answer = studio.post(url("start_release"), {"bundle": number})
    assert answer.status_code == 302
    assert not ReleaseItem.objects.exists()


@pytest.mark.parametrize("number", [number for number in NO_NUMBERS if number != "\x00"])
def test_there_is_no_group_below_one_that_cannot_be(studio: Client, creator: Creator, number: str) -> None:
    assert studio.get(url("create_group"), {"parent": number}).status_code == 404


@pytest.mark.parametrize("page", ["compose", "confirm_release", "publish_release", "send_test"])
@pytest.mark.parametrize("field", ["bundles", "groups"])
@pytest.mark.parametrize("number", NO_NUMBERS)
def test_what_cannot_be_chosen_is_said_to_be_gone_and_nothing_is_saved(
    studio: Client, patrons: Group, number: str, field: str, page: str
) -> None:
    bundle = BundleFactory.create(creator=patrons.creator)
    release = ReleaseFactory.create(
        creator=patrons.creator, title="November", bundles=[bundle], groups=[patrons]
    )
    sent = {
        "title": "Changed",
        field: [number],
        "request_id": str(uuid4()),
        "revision": 0,
        "when": "now",
        "as": number,
    }
    answer = studio.post(url(page, release.pk), sent)
    assert answer.status_code == 200
    assert "One of these is no longer there" in answer.text
    release.refresh_from_db()
    assert (release.title, release.state) == ("November", "draft")


@pytest.mark.parametrize("number", NO_NUMBERS)
def test_a_mail_is_shown_as_somebody_made_up_for_a_reader_that_cannot_be(
    studio: Client, patrons: Group, number: str
) -> None:
    release = ReleaseFactory.create(creator=patrons.creator, title="November", groups=[patrons])
    start_message(release)
    assert "alex@example.org" in studio.get(url("preview_mail", release.pk), {"as": number}).text


@pytest.mark.parametrize(
    "offer",
    [
        "9999-12-31T23:59:59-23:59",
        "0001-01-01T00:00:00+23:59",
        "2026-12-24T00:00:00",
        "x" * 40,
        "2999-01-01T00:00Z",
    ],
)
def test_a_time_that_no_button_offers_is_refused(studio: Client, patrons: Group, offer: str) -> None:
    release = ReleaseFactory.create(creator=patrons.creator, title="November", groups=[patrons])
    answer = studio.post(
        url("publish_release", release.pk),
        {
            "title": "November",
            "groups": [patrons.pk],
            "request_id": str(uuid4()),
            "revision": 0,
            "offer": offer,
        },
    )
    assert answer.status_code == 200
    release.refresh_from_db()
    assert release.state == "draft"


def test_an_offer_in_a_zone_a_day_away_is_the_same_instant(studio: Client, patrons: Group) -> None:
    bundle = BundleFactory.create(creator=patrons.creator)
    release = ReleaseFactory.create(
        creator=patrons.creator, title="November", bundles=[bundle], groups=[patrons]
    )
    due = timezone.now().replace(microsecond=0) + timedelta(days=3)
    sent = {
        "title": "November",
        "bundles": [bundle.pk],
        "groups": [patrons.pk],
        "request_id": str(uuid4()),
        "revision": 0,
    }
    far = due.astimezone(FAR_ZONE)
    answer = studio.post(url("publish_release", release.pk), {**sent, "offer": far.isoformat()})
    assert answer.status_code == 302
    release.refresh_from_db()
    assert release.publish_at == due


def test_nobody_is_found_by_a_sign_that_no_name_has(studio: Client, patrons: Group) -> None:
    release = ReleaseFactory.create(creator=patrons.creator, groups=[patrons])
    page = studio.get(url("recipients", release.pk), {"q": "\x00"})
    assert page.status_code == 200


@pytest.mark.parametrize("name", ["Ana\r\nBcc: x@example.org", "\u200b\u2060", "\u202e"])
def test_a_name_that_would_break_or_empty_the_head_of_a_mail_is_refused(studio: Client, name: str) -> None:
    profile = {"time_zone": "UTC", "reply_to": "ana@forge.example", "postal_address": "1 Road"}
    answer = fill_in(studio, url("settings"), {**profile, "name": name})
    assert answer.status_code == 200
    assert Creator.objects.get().name == "Ana's Forge"


def test_signs_that_turn_or_hide_are_taken_out_of_a_name(studio: Client) -> None:
    profile = {"time_zone": "UTC", "reply_to": "ana@forge.example", "postal_address": "1 Road"}
    fill_in(studio, url("settings"), {**profile, "name": "Ana\u202e \u200bMoreau"})
    assert Creator.objects.get().name == "Ana Moreau"
