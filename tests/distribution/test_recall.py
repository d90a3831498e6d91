"""What was given is taken back: from everybody, or from one."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEvent, User
from distribution import services, tasks
from distribution.models import Grant, Release
from distribution.services import grants
from distribution.services import recall as recall_service
from distribution.tickets import issue_ticket
from groups.models import Contact, Group
from library.models import File, Holding, LibraryEntry
from rows.lease import take_lease
from tests import factories
from tests.distribution.conftest import Give, at_once, killed_at, undone

pytestmark = pytest.mark.django_db
BECAUSE = "The lid does not fit."


@pytest.fixture
def given(give: Give, contact: Contact, ana: Contact) -> Release:
    """Mia holds it, Ana's waits for her."""
    return give()


def recall(release: Release, owner: User, now: datetime) -> bool:
    return services.recall_release(release, because=BECAUSE, by=owner, now=now)


def finish(release: Release, now: datetime) -> None:
    services.take_back_release(release.pk, now=now)
    release.refresh_from_db()


def test_a_recalled_release_has_left_every_library_and_says_why(
    given: Release, owner: User, now: datetime
) -> None:
    assert recall(given, owner, now)
    [holding] = Holding.objects.all()
    assert (holding.ended_at, holding.reason) == (now, BECAUSE)
    assert (given.recalled_at, given.recalled_because) == (now, BECAUSE)
    finish(given, now)
    assert given.state == Release.State.RECALLED
    assert AuditEvent.objects.filter(verb="recalled release").count() == 1


def test_recalling_twice_changes_nothing(given: Release, owner: User, now: datetime) -> None:
    recall(given, owner, now)
    finish(given, now)
    later = now + timedelta(days=1)
    assert not services.recall_release(given, because="Another reason", by=owner, now=later)
    assert (given.recalled_at, given.recalled_because) == (now, BECAUSE)
    assert given.state == Release.State.RECALLED
    assert AuditEvent.objects.filter(verb="recalled release").count() == 1
    assert not services.take_back_release(given.pk, now=later)


def test_what_came_another_way_too_stays(
    given: Release, give: Give, owner: User, member: User, hobbyist: Group, now: datetime
) -> None:
    bundle = given.items.get().bundle
    give(factories.ReleaseFactory.create(creator=given.creator, bundles=[bundle], groups=[hobbyist]))
    recall(given, owner, now)
    assert Holding.objects.live().count() == 1
    assert LibraryEntry.objects.of(member).live().count() == 1


@pytest.mark.parametrize("state", ["draft", "confirmed"])
def test_what_nobody_was_given_is_not_recalled(
    release: Release, owner: User, now: datetime, state: str
) -> None:
    if state == "confirmed":
        services.confirm_release(release, publish_at=now + timedelta(days=1), by=owner, now=now)
    with pytest.raises(services.NotGiven, match="Take it back to a draft"):
        recall(release, owner, now)
    release.refresh_from_db()
    assert (release.state, release.recalled_at) == (state, None)
    assert not AuditEvent.objects.filter(verb="recalled release").exists()


@pytest.fixture
def seven(hobbyist: Group) -> list[User]:
    """Members with accounts."""
    users: list[User] = factories.UserFactory.create_batch(7)
    for user in users:
        contact = factories.ContactFactory.create(
            creator=hobbyist.creator, address_key=user.email, account=user
        )
        factories.MembershipFactory.create(group=hobbyist, contact=contact)
    return users


def test_the_libraries_are_left_page_by_page_and_a_killed_worker_is_followed(
    release: Release, give: Give, seven: list[User], now: datetime
) -> None:
    give()
    # Only the end finds this library: no contact leads to it any more.
    Contact.objects.filter(account=seven[0]).update(account=None)
    Release.objects.update(state="recalling", recalled_at=now, recalled_because=BECAUSE, cursor=0)
    assert not services.take_back_release(release.pk, now=now, page=2, pages=1)
    assert Holding.objects.live().count() == 6
    release.refresh_from_db()
    assert Contact.objects.filter(pk__lte=release.cursor).count() == 2
    statement, done = 0, False
    while not done:
        statement += 1
        with undone():
            with killed_at(statement):
                done = services.take_back_release(release.pk, now=now, page=2)
            release.refresh_from_db()
            gone = Contact.objects.filter(pk__lte=release.cursor).values("account")
            assert not Holding.objects.live().filter(entry__user__in=gone).exists(), "the cursor is past them"
            # Nobody else works on it while a lease is held; afterwards it goes on where it stopped.
            Release.objects.update(lease_until=None)
            services.take_back_release(release.pk, now=now, page=2)
            release.refresh_from_db()
            assert release.state == Release.State.RECALLED
            assert not Holding.objects.live().exists()
            assert set(Holding.objects.values_list("reason", "ended_at")) == {(BECAUSE, now)}
    assert statement > 20


def test_two_workers_do_not_take_back_the_same(release: Release, give: Give, now: datetime) -> None:
    give()
    held = now.replace(year=2100)
    Release.objects.update(state="recalling", recalled_at=now, cursor=0, lease_until=held)
    assert not services.take_back_release(release.pk, now=now)


@pytest.mark.parametrize("step", ["page", "end"])
def test_a_worker_that_stalled_before_a_page_or_the_end_of_a_recall_changes_nothing_more(
    release: Release, give: Give, seven: list[User], now: datetime, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    give()
    Contact.objects.filter(account=seven[0]).update(account=None)
    Release.objects.update(state="recalling", recalled_at=now, recalled_because=BECAUSE, cursor=0)
    end_page, seen = recall_service._end_page, []

    def written() -> tuple[object, ...]:
        return Release.objects.values().get(), set(Holding.objects.values_list("pk", "ended_at"))

    def lapse() -> None:
        Release.objects.update(lease_until=None)
        assert take_lease(Release.objects.get(pk=release.pk), seconds=60)
        seen.append(written())

    def stalled(*arguments: Any) -> bool:
        if step == "page" and not seen:
            lapse()
        going_on = end_page(*arguments)
        if step == "end" and not going_on:
            lapse()
        return going_on

    monkeypatch.setattr(recall_service, "_end_page", stalled)
    assert not services.take_back_release(release.pk, now=now, page=2)
    assert seen == [written()]


def test_a_library_that_no_contact_leads_to_any_more_is_left_too(
    given: Release, owner: User, member: User, stranger: User, now: datetime
) -> None:
    Contact.objects.filter(account=member).update(account=stranger)
    recall(given, owner, now)
    assert Holding.objects.live().count() == 1
    finish(given, now)
    assert not Holding.objects.live().exists()


def test_a_recall_stops_the_giving_before_its_next_page(
    release: Release, seven: list[User], owner: User, now: datetime
) -> None:
    services.confirm_release(release, publish_at=now, by=owner, now=now)
    for statement in count(10, 3):
        with killed_at(statement):
            services.fan_out_grants(release.pk, now=now, page=2)
        if given := Grant.objects.count():
            break
        Release.objects.update(lease_until=None)
    assert given < 7
    recall(release, owner, now)
    assert not services.fan_out_grants(release.pk, now=now, page=2)
    finish(release, now)
    assert (Grant.objects.count(), release.state) == (given, Release.State.RECALLED)
    assert not Holding.objects.live().exists()


def test_a_recall_reaches_the_worker_that_is_giving_between_two_of_its_pages(
    release: Release, seven: list[User], owner: User, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.confirm_release(release, publish_at=now, by=owner, now=now)
    give_page = grants._give_page
    # Whoever recalls it is gone before the first library is left.
    monkeypatch.setattr(recall_service, "take_back_release", lambda *_arguments, **_options: False)

    def recalled_after(*arguments: Any) -> bool:
        going_on = give_page(*arguments)
        recall(Release.objects.get(pk=release.pk), owner, now)
        return going_on

    monkeypatch.setattr(grants, "_give_page", recalled_after)
    assert not services.fan_out_grants(release.pk, now=now, page=2)
    assert Grant.objects.count() == 2
    services.take_back_release(release.pk, now=now)
    assert not Holding.objects.live().exists()


def test_a_recall_stops_late_joiners(
    release: Release, give: Give, owner: User, hobbyist: Group, now: datetime
) -> None:
    release.rule = Release.Rule.LATE_JOINERS
    release.save()
    give()
    recall(release, owner, now)
    factories.MembershipFactory.create(group=hobbyist)
    Group.objects.update(roster_version=99)
    assert not Release.objects.behind().exists()
    assert services.extend_to_late_joiners(release.pk, now=now) == 0
    assert not Grant.objects.exists()


def test_the_sweep_goes_on_with_a_recall(given: Release, now: datetime, settings: LazySettings) -> None:
    settings.CELERY_TASK_ALWAYS_EAGER = True
    Release.objects.update(state="recalling", recalled_at=now, recalled_because=BECAUSE, cursor=0)
    tasks.take_back(given.pk)
    given.refresh_from_db()
    assert given.state == Release.State.RECALLED


def test_a_recalled_release_is_redeemed_by_nobody(
    grant: Grant, ana: Contact, owner: User, now: datetime
) -> None:
    user = factories.UserFactory.create(email=ana.address_key)
    recall(grant.release, owner, now)
    with pytest.raises(services.TakenBack):
        services.redeem_grant(grant, user=user, now=now)
    assert services.settle_waiting(user, now=now) == 0
    grant.refresh_from_db()
    assert grant.redeemed_at is None
    assert not LibraryEntry.objects.exists()


# --- one person's grant -------------------------------------------------------------------------------


def test_a_revoked_grant_leaves_this_library_and_no_other(
    given: Release, ana: Contact, contact: Contact, owner: User, now: datetime
) -> None:
    user = factories.UserFactory.create(email=ana.address_key)
    services.settle_waiting(user, now=now)
    mias, anas = given.grants.get(contact=contact), given.grants.get(contact=ana)
    assert services.revoke_grant(mias, by=owner, now=now)
    assert not services.revoke_grant(mias, by=owner, now=now + timedelta(days=1))
    mias.refresh_from_db()
    anas.refresh_from_db()
    assert (mias.revoked_at, anas.revoked_at) == (now, None)
    assert [holding.entry.user for holding in Holding.objects.live()] == [user]
    assert AuditEvent.objects.filter(verb="revoked grant").count() == 1


def test_a_revoked_grant_is_redeemed_by_nobody(
    grant: Grant, ana: Contact, owner: User, now: datetime
) -> None:
    services.revoke_grant(grant, by=owner, now=now)
    user = factories.UserFactory.create(email=ana.address_key)
    with pytest.raises(services.TakenBack):
        services.redeem_grant(grant, user=user, now=now)
    assert services.settle_waiting(user, now=now) == 0
    assert not LibraryEntry.objects.exists()


def test_who_was_granted_it_as_another_contact_too_keeps_it(
    given: Release, ana: Contact, contact: Contact, member: User, owner: User, now: datetime
) -> None:
    Contact.objects.filter(pk=ana.pk).update(account=member)
    services.revoke_grant(given.grants.get(contact=contact), by=owner, now=now)
    assert Holding.objects.live().count() == 1
    services.revoke_grant(given.grants.get(contact=ana), by=owner, now=now)
    assert not Holding.objects.live().exists()


# --- what people see ----------------------------------------------------------------------------------


@pytest.fixture
def link(grant: Grant) -> str:
    return reverse("redeem", args=[issue_ticket(grant.pk, grant.generation)])


@pytest.mark.parametrize("method", ["get", "post"])
def test_the_ticket_of_a_recalled_release_says_who_took_it_back_when_and_why(
    client: Client, link: str, grant: Grant, owner: User, now: datetime, method: str
) -> None:
    recall(grant.release, owner, now)
    answer = getattr(client, method)(link)
    page = answer.content.decode()
    assert answer.status_code == 410
    assert "Recalled by Ana&#x27;s Forge on 21 November 2026" in page
    assert BECAUSE in page
    assert grant.release.creator.reply_to in page
    assert "Redeem here" not in page


def test_the_ticket_of_a_revoked_grant_says_so(
    client: Client, link: str, grant: Grant, owner: User, now: datetime
) -> None:
    services.revoke_grant(grant, by=owner, now=now)
    answer = client.get(link)
    assert answer.status_code == 410
    assert "Taken back by Ana&#x27;s Forge" in answer.content.decode()


def test_the_library_entry_says_who_recalled_it_when_and_why_and_downloads_stop(
    given: Release, client_of: Callable[[User | None], Client], member: User, owner: User, now: datetime
) -> None:
    browser, entry = client_of(member), LibraryEntry.objects.get(user=member)
    downloads = [
        reverse("library:download_file", args=[File.objects.get().pk]),
        reverse("library:download_everything", args=[entry.pk]),
        reverse("library:download_release", args=[Holding.objects.get(entry=entry).pk]),
    ]
    for address in downloads:
        answer = browser.get(address)
        b"".join(answer)
        assert answer.status_code == 200
    recall(given, owner, now)
    page = browser.get(reverse("library:entry", args=[entry.pk])).content.decode()
    assert "Recalled by Ana&#x27;s Forge" in page
    assert BECAUSE in page
    assert [browser.get(address).status_code for address in downloads] == [404] * 3


# --- at once ------------------------------------------------------------------------------------------


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("redeem", ["by the ticket", "by signing in"])
def test_recall_against_redeem_leaves_no_live_holding_whoever_is_first(
    patrons: Group, owner: User, now: datetime, redeem: str
) -> None:
    bundle = factories.BundleFactory.create(creator=patrons.creator)
    user = factories.UserFactory.create()
    contact = factories.ContactFactory.create(creator=patrons.creator, address_key=user.email)
    first = {"recall": 0, "redeem": 0}
    head_start = 0.0  # seconds, of the recall: the loser of each round gets more of it, so both meet
    for _round in range(50):
        release = factories.ReleaseFactory.create(creator=patrons.creator, bundles=[bundle], groups=[patrons])
        services.confirm_release(release, publish_at=now, by=owner, now=now)
        services.fan_out_grants(release.pk, now=now)
        Contact.objects.update(account=None)
        grant = Grant.objects.create(release=release, contact=contact, granted_at=now)

        def press(
            number: int, grant: Grant = grant, release: Release = release, head_start: float = head_start
        ) -> str:
            time.sleep(max(0.0, -head_start if number == 0 else head_start))
            if number == 0:
                services.recall_release(release, because=BECAUSE, by=owner, now=now)
                return "recall"
            if redeem == "by signing in":
                return "redeem" if services.settle_waiting(user, now=now) else "refused"
            try:
                services.redeem_grant(grant, user=user, now=now)
            except services.TakenBack:
                return "refused"
            return "redeem"

        results = at_once(2, press)
        first["redeem" if "redeem" in results else "recall"] += 1
        head_start += 0.004 if "redeem" in results else -0.004
        assert not Holding.objects.live().filter(origin_key=release.origin_key).exists()
        grant.refresh_from_db()
        assert (grant.redeemed_at is not None) == ("redeem" in results)
    # Both orders were seen, or the race was none.
    assert min(first.values()) > 0, first


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_recall_against_the_pages_of_the_giving_leaves_no_live_holding(
    patrons: Group, seven: list[User], owner: User, now: datetime
) -> None:
    bundle = factories.BundleFactory.create(creator=patrons.creator)
    for _round in range(20):
        release = factories.ReleaseFactory.create(creator=patrons.creator, bundles=[bundle], groups=[patrons])
        services.confirm_release(release, publish_at=now, by=owner, now=now)

        def act(number: int, release: Release = release) -> None:
            if number == 0:
                services.fan_out_grants(release.pk, now=now, page=1)
                return
            while True:
                try:
                    services.recall_release(release, because=BECAUSE, by=owner, now=now)
                except services.NotGiven:
                    continue
                return

        at_once(2, act)
        assert not Holding.objects.live().filter(origin_key=release.origin_key).exists()
        services.fan_out_grants(release.pk, now=now, page=1)
        assert not Holding.objects.live().filter(origin_key=release.origin_key).exists()


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_revoke_against_redeem_leaves_no_live_holding_whoever_is_first(
    patrons: Group, owner: User, now: datetime
) -> None:
    bundle = factories.BundleFactory.create(creator=patrons.creator)
    user = factories.UserFactory.create()
    contact = factories.ContactFactory.create(creator=patrons.creator, address_key=user.email)
    for number in range(30):
        release = factories.ReleaseFactory.create(creator=patrons.creator, bundles=[bundle], groups=[patrons])
        services.confirm_release(release, publish_at=now, by=owner, now=now)
        services.fan_out_grants(release.pk, now=now)
        Contact.objects.update(account=None)
        grant = Grant.objects.create(release=release, contact=contact, granted_at=now)

        def press(caller: int, grant: Grant = grant, number: int = number) -> None:
            if caller == 0:
                services.revoke_grant(grant, by=owner, now=now)
            elif number % 2:
                services.settle_waiting(user, now=now)
            else:
                try:
                    services.redeem_grant(grant, user=user, now=now)
                except services.TakenBack:
                    return

        at_once(2, press)
        assert not Holding.objects.live().filter(origin_key=release.origin_key).exists()
