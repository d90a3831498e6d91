"""The same creator's members in two months: only the difference acts."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from accounts.models import AuditEvent, User
from groups.models import Contact, Group, Import, ImportRow, Membership
from groups.services import gone_memberships, summarise
from tests import samples
from tests.factories import UserFactory
from tests.groups.flow import applied, checked, opened, state_of

pytestmark = pytest.mark.usefixtures("hobbyist", "collector", "merchant")
OCTOBER = samples.patreon_export(samples.october(), samples.OCTOBER)
NOVEMBER = samples.patreon_export(samples.november(), samples.NOVEMBER)


def numbers(run: Import) -> dict[str, int]:
    return {verdict: count for verdict, count in summarise(run).verdicts.items() if count}


def test_the_first_month_is_recognised_mapped_by_tier_names_and_counted(
    patrons: Group, owner: User, now: datetime
) -> None:
    run = checked(patrons, OCTOBER, by=owner, now=now)

    assert run.format == "patreon-2026"
    assert run.as_of == samples.OCTOBER
    assert numbers(run) == {"new": 18, "skipped": 6}
    summary = summarise(run)
    assert summary.skipped == {"Former patron": 2, "Declined patron": 2, "Free member": 2}
    assert summary.flags == {"relay": 1}
    assert sum(summary.joining.values()) == 18
    assert (summary.gone, summary.members, summary.changes) == (0, 0, 18)
    assert not Contact.objects.exists()


def test_applying_makes_contacts_with_ids_and_one_membership_each(
    patrons: Group, hobbyist: Group, owner: User, now: datetime
) -> None:
    known = UserFactory.create(email="patron0@example.org")

    run = applied(checked(patrons, OCTOBER, by=owner, now=now), by=owner, now=now)

    assert (run.state, run.done_at) == (Import.State.DONE, now)
    assert Contact.objects.count() == Membership.objects.live(now).count() + 1 == 18
    first = Contact.objects.get(outside_ids__value="4100000")
    assert (first.name, first.account) == ("Éloïse 0", known)
    membership = first.memberships.get()
    assert membership.group == hobbyist
    assert membership.started_at == datetime(2025, 3, 1, 7, 46, 37, 482913, tzinfo=UTC)
    assert membership.brought_by == run
    leaving = Membership.objects.get(contact__outside_ids__value="4100012")
    assert leaving.ended_at == datetime(2026, 11, 14, tzinfo=UTC)
    assert AuditEvent.objects.filter(verb="applied import", creator_id=patrons.creator_id).count() == 1


def test_the_same_file_twice_changes_nothing(patrons: Group, owner: User, now: datetime) -> None:
    applied(checked(patrons, OCTOBER, by=owner, now=now), by=owner, now=now)
    before = state_of(patrons)
    versions = list(Group.objects.order_by("pk").values_list("roster_version", flat=True))

    again = checked(patrons, OCTOBER, by=owner, now=now)
    assert numbers(again) == {"unchanged": 18, "skipped": 6}
    assert summarise(again).changes == 0
    applied(again, by=owner, now=now, gone_at=again.as_of)

    assert state_of(patrons) == before
    assert list(Group.objects.order_by("pk").values_list("roster_version", flat=True)) == versions


def test_in_the_next_month_only_the_difference_acts(
    patrons: Group, merchant: Group, owner: User, now: datetime
) -> None:
    applied(checked(patrons, OCTOBER, by=owner, now=now), by=owner, now=now)
    moved_address = Contact.objects.get(outside_ids__value="4100007")
    redeemer = UserFactory.create(email="somebody@example.net")
    Contact.objects.filter(pk=moved_address.pk).update(account=redeemer)

    run = checked(patrons, NOVEMBER, by=owner, now=now)
    assert numbers(run) == {"new": 4, "unchanged": 12, "changed": 1, "moved": 2, "skipped": 6}
    gone = gone_memberships(run).order_by("contact__address_key")
    assert [left.contact.address_key for left in gone] == [
        "patron12@example.org",  # former now
        "patron16@example.org",  # not listed
        "patron3@example.org",  # not listed
    ]
    changed = run.rows.get(verdict=ImportRow.Verdict.CHANGED)
    assert (changed.former_address, changed.address_key) == (
        "patron7@example.org",
        "new.address.7@example.org",
    )

    applied(run, by=owner, now=now, gone_at=run.as_of)

    assert summarise(run).ended == 3
    moved_address.refresh_from_db()
    assert moved_address.address_key == "new.address.7@example.org"
    assert moved_address.account == redeemer
    tiers = Membership.objects.filter(contact__outside_ids__value="4100010").order_by("started_at")
    assert [(held.group.name, held.ended_at) for held in tiers] == [
        ("Collector", samples.NOVEMBER),
        ("Merchant", None),
    ]
    assert Membership.objects.live(now).count() == 19
    for contact in Contact.objects.all():
        assert contact.memberships.live(now).count() <= 1
    before = state_of(patrons)
    again = checked(patrons, NOVEMBER, by=owner, now=now)
    assert numbers(again) == {"unchanged": 19, "skipped": 6}
    assert summarise(again).gone == 0
    applied(again, by=owner, now=now, gone_at=again.as_of)
    assert state_of(patrons) == before


def test_the_gone_are_kept_unless_the_creator_ends_them(patrons: Group, owner: User, now: datetime) -> None:
    applied(checked(patrons, OCTOBER, by=owner, now=now), by=owner, now=now)

    run = applied(checked(patrons, NOVEMBER, by=owner, now=now), by=owner, now=now)

    assert (summarise(run).gone, summarise(run).ended) == (3, 0)
    assert Membership.objects.get(contact__address_key="patron3@example.org").ended_at is None


def test_who_comes_back_gets_a_second_period(patrons: Group, owner: User, now: datetime) -> None:
    applied(checked(patrons, OCTOBER, by=owner, now=now), by=owner, now=now)
    november = checked(patrons, NOVEMBER, by=owner, now=now)
    applied(november, by=owner, now=now, gone_at=november.as_of)
    december = datetime(2026, 12, 2, 3, tzinfo=UTC)
    later = datetime(2026, 12, 3, tzinfo=UTC)

    content = samples.patreon_export([*samples.november(), samples.patron(3)], december)
    run = checked(patrons, content, by=owner, now=later)
    assert numbers(run) == {"returned": 1, "unchanged": 19, "skipped": 6}
    applied(run, by=owner, now=later)

    periods = Membership.objects.filter(contact__address_key="patron3@example.org").order_by("started_at")
    assert [(period.started_at, period.ended_at) for period in periods[1:]] == [(december, None)]
    assert periods[0].ended_at == samples.NOVEMBER


def test_the_older_export_is_read_too(patrons: Group, owner: User, now: datetime) -> None:
    people = [one for one in samples.october() if not one.free]
    content = samples.patreon_export(people, samples.OCTOBER, headings=samples.PATREON_2023)

    run = checked(patrons, content, by=owner, now=now)

    assert run.format == "patreon-2023"
    assert numbers(run) == {"new": 18, "skipped": 4}


def test_choices_are_remembered_for_the_main_group(
    patrons: Group, hobbyist: Group, owner: User, now: datetime
) -> None:
    run = checked(
        patrons,
        OCTOBER,
        by=owner,
        now=now,
        statuses=frozenset({"active patron", "declined patron"}),
        tiers={tier.casefold(): hobbyist.pk for tier in samples.TIERS},
    )
    assert numbers(run) == {"new": 20, "skipped": 4}
    applied(run, by=owner, now=now)

    november = opened(patrons, NOVEMBER, by=owner, now=now)

    assert november.mapping == run.mapping


@pytest.mark.skipif("SAMPLES" not in os.environ, reason="SAMPLES names no folder of real exports")
@pytest.mark.parametrize(
    ("name", "verdicts"),
    [
        ("patreon-2026-10.csv", {"new": 41, "skipped": 7}),
        ("patreon-2023.csv", {"new": 27, "skipped": 3}),
        ("plain-list.csv", {"new": 12}),
        ("kickstarter-2018.csv", {"unmapped": 36}),
    ],
)
def test_real_exports_are_counted_right(
    patrons: Group, owner: User, now: datetime, name: str, verdicts: dict[str, int]
) -> None:
    run = checked(patrons, Path(os.environ["SAMPLES"], name).read_bytes(), by=owner, now=now)

    assert numbers(run) == verdicts


@pytest.mark.skipif("SAMPLES" not in os.environ, reason="SAMPLES names no folder of real exports")
def test_two_real_months_differ_as_their_readme_says(patrons: Group, owner: User, now: datetime) -> None:
    folder = Path(os.environ["SAMPLES"])
    october = checked(patrons, (folder / "patreon-2026-10.csv").read_bytes(), by=owner, now=now)
    applied(october, by=owner, now=now)

    run = checked(patrons, (folder / "patreon-2026-11.csv").read_bytes(), by=owner, now=now)

    assert numbers(run) == {"new": 7, "unchanged": 35, "changed": 1, "moved": 2, "skipped": 7}
    assert summarise(run).gone == 3
