"""The page of a release: from its schedule to what became of it, and its people by state."""

from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import Suppression, User
from distribution.models import Release
from distribution.services import fan_out_grants, publish_release, redeem_grant
from groups.models import Contact, Creator, Group
from library.models import BundleVersion, Download
from library.services import open_upload
from messaging import services
from messaging.models import Delivery, Message
from messaging.providers import provider
from tests import factories
from tests.studio.conftest import url

NOW = timezone.now().replace(microsecond=0)


@pytest.fixture
def people(hobbyist: Group, contact: Contact) -> list[Contact]:
    """Mia, who has an account, and three whose addresses alone are known."""
    others = [
        factories.ContactFactory.create(
            creator=hobbyist.creator, name=f"Person {n}", address_key=f"p{n}@x.example"
        )
        for n in range(3)
    ]
    for other in others:
        factories.MembershipFactory.create(group=hobbyist, contact=other)
    return [contact, *others]


@pytest.fixture
def message(creator: Creator, hobbyist: Group, people: list[Contact]) -> Message:
    bundle = factories.BundleFactory.create(creator=creator, title="Dragon")
    release = factories.ReleaseFactory.create(
        creator=creator, title="November", bundles=[bundle], groups=[hobbyist]
    )
    draft = services.start_message(release)
    draft.subject, draft.body = "The dragon", "Hello {first_name|friend}"
    draft.save()
    return draft


def confirm(message: Message, owner: User, days: int = 0) -> None:
    due_at = NOW + timedelta(days=days)
    services.confirm_message(message, request_id=uuid4(), due_at=due_at, by=owner, now=NOW)


def give(message: Message) -> None:
    fan_out_grants(message.release_id, now=NOW)


def start(message: Message) -> None:
    services.plan_deliveries(message.pk, now=NOW)
    services.begin_sending(message.pk, now=NOW)


def send() -> None:
    services.send_waiting(owner="here:1", provider=provider(), clock=timezone.now, stop=lambda: False)


def page_of(studio: Client, message: Message) -> str:
    return studio.get(url("release", message.release_id)).content.decode()


def test_who_changed_the_files_since_chooses_which_ones_it_gives(
    studio: Client, message: Message, owner: User
) -> None:
    confirm(message, owner, days=2)
    item = message.release.items.get()
    assert "Give the newest instead" not in page_of(studio, message)
    assert "already" in studio.post(url("take_newest", message.release_id), follow=True).content.decode()
    newest = BundleVersion.objects.create(bundle=item.bundle, number=2)
    factories.add_file(newest, "wing.stl", b"solid wing")
    assert "as they were then" in page_of(studio, message)
    page = studio.post(url("take_newest", message.release_id), follow=True).content.decode()
    assert "It gives the newest files now." in page
    assert "version 2" in page
    assert "Give the newest instead" not in page
    open_upload(item.bundle, path="late.stl", size=10, by=owner, now=NOW)
    page = studio.post(url("take_newest", message.release_id), follow=True).content.decode()
    assert "late.stl" in page
    assert message.release.items.get().version == newest


def test_a_scheduled_release_says_when_and_offers_to_take_it_back(
    studio: Client, message: Message, owner: User
) -> None:
    confirm(message, owner, days=2)
    page = page_of(studio, message)
    assert "Goes out" in page
    assert "Take it back to a draft" in page
    assert "What became of it" not in page


def test_what_is_sent_now_is_never_called_scheduled(studio: Client, message: Message, owner: User) -> None:
    confirm(message, owner)
    for page in (
        page_of(studio, message),
        *(studio.get(url(name)).content.decode() for name in ("home", "releases")),
    ):
        assert "Starting" in page
        assert "scheduled" not in page.lower()
    assert "Goes out now" in page_of(studio, message)


def test_the_page_asks_again_while_it_moves_and_stops_when_it_is_done(
    studio: Client, message: Message, owner: User, mailoutbox: object
) -> None:
    confirm(message, owner)
    assert "every 2s" in page_of(studio, message)
    give(message)
    start(message)
    moving = studio.get(url("release", message.release_id), headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in moving
    assert "every 2s" in moving
    assert 'max="4"' in moving
    send()
    services.finish_message(message.pk, now=NOW)
    done = page_of(studio, message)
    assert "every 2s" not in done
    assert "Accepted is not delivered" in done


def test_the_numbers_lead_to_their_people(
    studio: Client, message: Message, owner: User, member: User, mailoutbox: object
) -> None:
    Suppression.objects.create(address_key="p2@x.example", reason="bounce", created_at=NOW)
    confirm(message, owner)
    give(message)
    start(message)
    send()
    release = Release.objects.get()
    version = release.items.get().version
    assert version
    Download.objects.create(user=member, version=version, at=NOW)
    other = factories.UserFactory.create(email="p0@x.example")
    redeem_grant(release.grants.get(contact__address_key="p0@x.example"), user=other, now=NOW)
    page = page_of(studio, message)
    for sentence in ["Entitled", "In a library at once", "Mailed", "Redeemed", "Downloaded", "Not reached"]:
        assert sentence in page

    def listed(state: str, q: str = "") -> set[str]:
        found = studio.get(url("recipients", release.pk), {"state": state, "q": q}).content.decode()
        return {name for name in ["Mia Berg", "Person 0", "Person 1", "Person 2"] if name in found}

    assert listed("") == {"Mia Berg", "Person 0", "Person 1", "Person 2"}
    assert listed("library") == {"Mia Berg", "Person 0"}
    assert listed("waiting") == {"Person 1", "Person 2"}
    assert listed("redeemed") == {"Person 0"}
    assert listed("downloaded") == {"Mia Berg"}
    assert listed("accepted") == {"Mia Berg", "Person 0", "Person 1"}
    assert listed("suppressed") == {"Person 2"}
    assert listed("failed") == set()
    assert listed("", "P1@X") == {"Person 1"}
    assert listed("nonsense", "berg") == {"Mia Berg"}


def test_what_is_in_doubt_is_listed_by_name_with_what_it_means(
    studio: Client, message: Message, owner: User, mailoutbox: object
) -> None:
    confirm(message, owner)
    give(message)
    start(message)
    Delivery.objects.filter(address_key="p1@x.example").update(state="sending")
    # The worker dies here; whoever comes next finds it.
    message.chunks.update(lease_until=NOW - timedelta(hours=1), epoch=1)
    send()
    assert "In doubt" in page_of(studio, message)
    page = studio.get(url("undelivered", message.release_id)).content.decode()
    assert "they may or may not have arrived" in page
    assert "p1@x.example" in page
    assert "p0@x.example" not in page


def test_a_release_without_a_mail_says_so(studio: Client, message: Message, owner: User) -> None:
    publish_release(message.release, publish_at=NOW, by=owner, now=NOW)
    give(message)
    page = page_of(studio, message)
    assert "Published without a mail" in page
    assert "Accepted is not delivered" not in page


def test_a_paused_creator_reads_why_it_waits(studio: Client, message: Message, owner: User) -> None:
    confirm(message, owner)
    give(message)
    Creator.objects.update(paused_at=NOW)
    assert "Sending is paused" in page_of(studio, message)


def test_what_is_being_given_cannot_be_taken_back(studio: Client, message: Message, owner: User) -> None:
    confirm(message, owner)
    give(message)
    page = studio.post(url("unschedule_release", message.release_id), follow=True).content.decode()
    assert "cannot be taken back" in page
    assert Release.objects.get().state == "published"


def test_whoever_joins_later_is_counted_apart(
    studio: Client, message: Message, owner: User, mailoutbox: object
) -> None:
    confirm(message, owner)
    give(message)
    start(message)
    Release.objects.update(granted=6)
    assert "2 people joined later" in page_of(studio, message)


def test_people_ask_the_same_for_one_and_for_four(
    studio: Client, message: Message, owner: User, queries_of: Callable[[str], int]
) -> None:
    confirm(message, owner)
    give(message)
    start(message)
    pages = [url("recipients", message.release_id) + query for query in ["?q=mia", ""]]
    one, four = map(queries_of, pages)
    assert one == four


@pytest.mark.parametrize("q", ["\x00", "%", "_", "'", "x" * 500, "\u202e"])
def test_a_strange_search_finds_nobody_and_harms_nothing(
    studio: Client, message: Message, owner: User, patrons: Group, q: str
) -> None:
    confirm(message, owner)
    give(message)
    assert studio.get(url("recipients", message.release_id), {"q": q, "state": q}).status_code == 200
    assert studio.get(url("group", patrons.pk), {"q": q, "page": q}).status_code == 200
