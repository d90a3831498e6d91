"""A release on its way: started, chosen for, confirmed once, or taken back."""

from datetime import datetime, timedelta

import pytest
from django.db import connection

from accounts.models import AuditEvent, User
from distribution import services
from distribution.models import Release, ReleaseItem
from groups.models import Contact, Creator, Group
from library.models import Bundle, BundleVersion, Holding
from library.services import StillUploading, open_upload
from tests import factories
from tests.distribution.conftest import Give, at_once

pytestmark = pytest.mark.django_db


def confirm(release: Release, by: User, now: datetime) -> None:
    services.confirm_release(release, publish_at=now, by=by, now=now)


def test_a_started_release_is_an_empty_draft_of_its_creator(creator: Creator, now: datetime) -> None:
    release = services.start_release(creator, now=now)
    assert (release.state, release.rule, release.created_at) == ("draft", "at_publishing", now)
    assert not release.items.exists()
    assert services.start_release(creator, now=now) != release


def test_the_draft_holds_exactly_what_was_chosen_last(release: Release, creator: Creator) -> None:
    first, second = factories.BundleFactory.create_batch(2, creator=creator)
    for _twice in range(2):
        services.choose_bundles(release, [second, first])
        assert [item.bundle for item in release.items.all()] == [second, first]
    services.choose_bundles(release, [])
    assert not release.items.exists()


def test_the_draft_is_for_exactly_whom_was_chosen_last(
    release: Release, hobbyist: Group, collector: Group
) -> None:
    for _twice in range(2):
        services.choose_audience(release, [collector, hobbyist], "late_joiners")
        assert [row.group for row in release.audience_rows.all()] == [collector, hobbyist]
    release.refresh_from_db()
    assert release.rule == Release.Rule.LATE_JOINERS


def test_what_belongs_to_another_creator_is_never_chosen(release: Release) -> None:
    with pytest.raises(ValueError, match="own creator"):
        services.choose_bundles(release, [factories.BundleFactory.create()])
    with pytest.raises(ValueError, match="own creator"):
        services.choose_audience(release, [factories.GroupFactory.create()], "at_publishing")
    assert release.items.count() == release.audience_rows.count() == 1


def test_confirming_pins_the_sealed_versions_and_says_who_did_it(
    release: Release, owner: User, now: datetime
) -> None:
    later = now + timedelta(days=2)
    services.confirm_release(release, publish_at=later, by=owner, now=now)
    assert (release.state, release.publish_at, release.as_of) == ("confirmed", later, None)
    item = release.items.get()
    assert item.version == item.bundle.versions.get()
    event = AuditEvent.objects.get()
    assert (event.actor, event.verb, event.subject) == (owner, "confirmed release", f"release {release.pk}")
    assert event.creator_id == release.creator_id


def test_confirming_seals_what_is_still_open(patrons: Group, owner: User, now: datetime) -> None:
    bundle = factories.BundleFactory.create(creator=patrons.creator, files__open=True)
    release = factories.ReleaseFactory.create(creator=patrons.creator, bundles=[bundle], groups=[patrons])
    confirm(release, owner, now)
    version = release.items.get().version
    assert version is not None
    assert version.sealed_at == now


def test_a_time_that_has_passed_means_at_once(release: Release, owner: User, now: datetime) -> None:
    services.confirm_release(release, publish_at=now - timedelta(days=400), by=owner, now=now)
    assert release.publish_at == now


def test_publishing_without_mail_is_confirming(release: Release, owner: User, now: datetime) -> None:
    services.publish_release(release, publish_at=now, by=owner, now=now)
    assert release.state == "confirmed"
    with pytest.raises(services.AlreadyConfirmed):
        services.publish_release(release, publish_at=now, by=owner, now=now)


def test_confirming_twice_is_refused_and_changes_nothing(
    release: Release, owner: User, now: datetime
) -> None:
    confirm(release, owner, now)
    with pytest.raises(services.AlreadyConfirmed, match="confirmed already"):
        services.confirm_release(release, publish_at=now + timedelta(days=1), by=owner, now=now)
    release.refresh_from_db()
    assert release.publish_at == now
    assert AuditEvent.objects.count() == 1


def unchanged(release: Release) -> bool:
    release = Release.objects.get(pk=release.pk)
    pinned = release.items.exclude(version=None).exists()
    return (
        release.state == "draft"
        and release.publish_at is None
        and not pinned
        and not AuditEvent.objects.exists()
    )


def test_without_a_bundle_there_is_nothing_to_give(release: Release, owner: User, now: datetime) -> None:
    services.choose_bundles(release, [])
    with pytest.raises(services.NothingAttached, match="attach at least one bundle"):
        confirm(release, owner, now)
    assert unchanged(release)


def test_a_bundle_without_a_file_is_nothing_to_give(
    release: Release, creator: Creator, owner: User, now: datetime
) -> None:
    empty = factories.BundleFactory.create(creator=creator, title="Nothing yet", files=0, files__open=True)
    services.choose_bundles(release, [*Bundle.objects.exclude(pk=empty.pk), empty])
    with pytest.raises(services.NothingAttached, match="Nothing yet"):
        confirm(release, owner, now)
    assert unchanged(release)


def test_a_bundle_still_uploading_is_not_given_half(release: Release, owner: User, now: datetime) -> None:
    open_upload(release.items.get().bundle, "wing.stl", 1000, by=owner, now=now)
    with pytest.raises(StillUploading):
        confirm(release, owner, now)
    assert unchanged(release)


def test_without_a_group_nobody_is_chosen(release: Release, owner: User, now: datetime) -> None:
    services.choose_audience(release, [], "at_publishing")
    with pytest.raises(services.NobodyChosen, match="choose at least one group"):
        confirm(release, owner, now)
    assert unchanged(release)


def test_an_archived_group_is_nobody(release: Release, patrons: Group, owner: User, now: datetime) -> None:
    Group.objects.filter(pk=patrons.pk).update(archived_at=now)
    with pytest.raises(services.NobodyChosen):
        confirm(release, owner, now)
    assert unchanged(release)


def test_a_creator_who_is_not_approved_publishes_nothing(
    release: Release, creator: Creator, owner: User, now: datetime
) -> None:
    Creator.objects.filter(pk=creator.pk).update(approved_at=None)
    with pytest.raises(services.NotApproved, match="not approved yet"):
        confirm(release, owner, now)
    assert unchanged(release)


def test_what_is_confirmed_is_not_changed_any_more(
    release: Release, hobbyist: Group, owner: User, now: datetime
) -> None:
    confirm(release, owner, now)
    with pytest.raises(services.AlreadyConfirmed, match="Unschedule it"):
        services.choose_bundles(release, [])
    with pytest.raises(services.AlreadyConfirmed):
        services.choose_audience(release, [hobbyist], "late_joiners")
    release.refresh_from_db()
    assert release.items.count() == 1
    assert release.rule == Release.Rule.AT_PUBLISHING


def test_unscheduled_it_is_a_draft_that_pins_nothing(release: Release, owner: User, now: datetime) -> None:
    confirm(release, owner, now)
    for _twice in range(2):
        services.unschedule_release(release)
        assert (release.state, release.publish_at) == ("draft", None)
        assert release.items.get().version is None
    confirm(release, owner, now)


def test_what_is_being_given_is_not_taken_back(give: Give, release: Release) -> None:
    give()
    with pytest.raises(services.AlreadyGiving, match="being given already"):
        services.unschedule_release(release)
    release.refresh_from_db()
    assert release.state == "published"
    assert release.items.get().version is not None


def test_staff_find_their_releases_and_strangers_none(release: Release, owner: User, stranger: User) -> None:
    assert list(Release.objects.run_by(owner)) == [release]
    assert not Release.objects.run_by(stranger).exists()


def test_an_untitled_release_has_a_name_to_show(creator: Creator, now: datetime) -> None:
    release = services.start_release(creator, now=now)
    assert str(release) == "Untitled release"
    assert str(ReleaseItem(release=release, bundle=Bundle(title="Dragon"))) == "Dragon in Untitled release"


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_fifty_confirming_at_once_one_does(release: Release, owner: User, now: datetime) -> None:
    def one(_number: int) -> bool:
        mine = Release.objects.get(pk=release.pk)
        try:
            services.confirm_release(mine, publish_at=now, by=owner, now=now)
        except services.AlreadyConfirmed:
            return False
        return True

    assert at_once(50, one).count(True) == 1
    assert AuditEvent.objects.count() == 1
    assert connection.vendor == "postgresql"


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_what_is_chosen_while_somebody_confirms_is_either_given_or_refused(
    release: Release, creator: Creator, owner: User, now: datetime
) -> None:
    other = factories.BundleFactory.create(creator=creator)

    def one(number: int) -> bool:
        mine = Release.objects.get(pk=release.pk)
        try:
            if number:
                services.choose_bundles(mine, [other])
            else:
                services.confirm_release(mine, publish_at=now, by=owner, now=now)
        except services.AlreadyConfirmed:
            return False
        return True

    confirmed, *chosen = at_once(8, one)
    assert confirmed
    item = release.items.select_related("version").get()
    assert item.version is not None
    assert (item.bundle == other) == any(chosen)


def newer(bundle: Bundle) -> BundleVersion:
    """The bundle's next version, open, with a file more."""
    number = bundle.versions.count() + 1
    version = BundleVersion.objects.create(bundle=bundle, number=number)
    factories.add_file(version, f"new-{number}.stl", f"solid new {number}".encode())
    return version


def test_what_waits_for_its_time_takes_newer_files_when_it_is_told_to(
    release: Release, owner: User, now: datetime
) -> None:
    confirm(release, owner, now)
    assert not services.take_newest(release, by=owner, now=now)
    item = release.items.get()
    newest = newer(item.bundle)
    assert release.items.with_newest().get().newest == 2
    item.refresh_from_db()
    assert item.version != newest
    assert [services.take_newest(release, by=owner, now=now) for _twice in range(2)] == [True, False]
    item.refresh_from_db()
    assert (item.version, item.version and item.version.sealed_at) == (newest, now)
    assert list(AuditEvent.objects.order_by("pk").values_list("verb", flat=True)) == [
        "confirmed release",
        "took newest versions",
    ]


def test_while_a_file_is_still_coming_the_release_keeps_what_it_has(
    release: Release, owner: User, now: datetime
) -> None:
    confirm(release, owner, now)
    before = release.items.get()
    newer(before.bundle)
    open_upload(before.bundle, path="late.stl", size=10, by=owner, now=now)
    with pytest.raises(StillUploading, match=r"late\.stl"):
        services.take_newest(release, by=owner, now=now)
    assert release.items.get().version == before.version


def test_neither_a_draft_nor_what_is_given_takes_other_files(
    give: Give, release: Release, owner: User, now: datetime
) -> None:
    with pytest.raises(services.AlreadyGiving):
        services.take_newest(release, by=owner, now=now)
    assert release.items.get().version is None
    give()
    before = release.items.get()
    newer(before.bundle)
    with pytest.raises(services.AlreadyGiving, match="cannot be changed"):
        services.take_newest(release, by=owner, now=now)
    assert release.items.get().version == before.version


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_newer_files_and_the_worker_that_gives_agree_on_what_everybody_has(
    release: Release, creator: Creator, owner: User, contact: Contact, now: datetime
) -> None:
    for _round in range(10):
        bundle = factories.BundleFactory.create(creator=creator)
        mine = factories.ReleaseFactory.create(
            creator=creator, bundles=[bundle], groups=[row.group for row in release.audience_rows.all()]
        )
        confirm(mine, owner, now)
        newer(bundle)

        def one(number: int, mine: Release = mine) -> bool:
            if number:
                return services.fan_out_grants(mine.pk, now=now)
            try:
                return services.take_newest(mine, by=owner, now=now)
            except services.AlreadyGiving:
                return False

        took, _gave = at_once(2, one)
        services.fan_out_grants(mine.pk, now=now)
        assert mine.items.get().version.number == (2 if took else 1)
        held = Holding.objects.filter(entry__bundle=bundle)
        assert list(held.values_list("version__number", flat=True)) == [2 if took else 1]
