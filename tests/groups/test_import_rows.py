"""What one row comes to: identity, places, planned ends, and what cannot be used."""

from datetime import UTC, datetime, timedelta

import pytest
from django.conf import LazySettings

from accounts.models import Suppression, User
from accounts.services import suppress
from groups.models import Contact, Group, Import, ImportRow, Membership, OutsideId
from groups.services import archive_group, gone_memberships, request_apply, start_membership, summarise
from groups.services.applying import apply_import
from tests import samples
from tests.factories import ContactFactory, MembershipFactory, UserFactory
from tests.groups.flow import applied, checked
from tests.samples import NOVEMBER, OCTOBER, Patron, patreon_export, patron, plain_list

pytestmark = pytest.mark.usefixtures("hobbyist", "collector", "merchant")
Verdict = ImportRow.Verdict


@pytest.fixture
def month(patrons: Group, owner: User, now: datetime) -> "Month":
    return Month(patrons, owner, now)


class Month:
    """One patron list after the other, imported into the same group."""

    def __init__(self, group: Group, owner: User, now: datetime) -> None:
        self.group, self.owner, self.now = group, owner, now

    def check(self, *people: Patron, at: datetime = OCTOBER, **choices: object) -> Import:
        return checked(self.group, patreon_export(people, at), by=self.owner, now=self.now, **choices)

    def apply(self, *people: Patron, at: datetime = OCTOBER, gone_at: datetime | None = None) -> Import:
        run = self.check(*people, at=at)
        return applied(run, by=self.owner, now=self.now, gone_at=gone_at, typed=self.group.name)

    def verdicts(self, *people: Patron, at: datetime = NOVEMBER) -> list[str]:
        return [row.verdict for row in self.check(*people, at=at).rows.order_by("line")]


def test_bad_rows_name_line_column_reason_and_value(month: Month) -> None:
    run = month.check(
        patron(0),
        patron(1, email="a@b.example;c@d.example"),
        patron(2, name="Ana\r\nBcc: x@example.org"),
        patron(3, since="2026-02-31 00:00:00"),
        patron(4, until="9999-12-31 00:00:00"),
        patron(5, email="nobody" + "x" * 200),
    )

    bad = run.rows.filter(verdict=Verdict.BAD).order_by("line")
    # The name of line 4 takes two lines.
    assert [(row.line, row.column) for row in bad] == [
        (3, "Email"),
        (4, "Name"),
        (6, "Patronage Since Date"),
        (7, "Access Expiration"),
        (8, "Email"),
    ]
    assert all(row.reason.endswith(".") and len(row.value) <= 80 for row in bad)
    assert bad[1].value == "Ana��Bcc: x@example.org"
    assert summarise(run).rows == 6


def test_an_unreadable_line_stands_among_the_bad(month: Month) -> None:
    content = patreon_export([patron(0), patron(1)], OCTOBER).replace(b"Priya 1,", b'"Priya 1,')
    run = checked(month.group, content, by=month.owner, now=month.now)

    assert [(row.line, row.verdict) for row in run.rows.order_by("line")] == [(2, "new"), (3, "bad")]


def test_our_own_addresses_are_refused(month: Month, settings: LazySettings) -> None:
    settings.MAIL_FROM = "Largesse <mail@largesse.example>"

    run = month.check(
        patron(0, email="Mail@largesse.example"), patron(1, email=month.group.creator.reply_to), patron(2)
    )

    assert [row.verdict for row in run.rows.order_by("line")] == ["bad", "bad", "new"]


def test_addresses_worth_a_word_are_imported_and_flagged(month: Month) -> None:
    creator_id = month.group.creator_id
    suppress("patron0@example.org", Suppression.Reason.BOUNCE, creator_id=creator_id, now=month.now)

    run = month.apply(
        patron(0),
        patron(1, email="info@example.org"),
        patron(2, email="x@duck.com"),
        patron(3, email="y@yopmail.com"),
        patron(4, name="ev\u202eil"),
        patron(5),
    )

    assert [row.flag for row in run.rows.order_by("line")] == [
        "suppressed",
        "role",
        "relay",
        "disposable",
        "cleaned",
        "",
    ]
    assert summarise(run).flags == dict.fromkeys(("suppressed", "role", "relay", "disposable", "cleaned"), 1)
    assert Contact.objects.get(outside_ids__value=patron(4).user_id).name == "evil"


def test_that_somebody_elses_mail_to_an_address_was_stopped_is_not_told(month: Month) -> None:
    elsewhere = month.group.creator_id + 1
    suppress("patron0@example.org", Suppression.Reason.COMPLAINT, creator_id=elsewhere, now=month.now)
    suppress("patron1@example.org", Suppression.Reason.ADMIN, now=month.now)
    run = month.apply(patron(0), patron(1))
    assert [row.flag for row in run.rows.order_by("line")] == ["", ""]
    assert summarise(run).flags == {}


def test_the_first_row_of_a_person_counts_however_the_later_ones_name_them(month: Month) -> None:
    assert month.verdicts(
        patron(0),
        patron(0, email="other@example.org", tier="Merchant"),
        patron(1, email="PATRON0@example.org"),
        patron(2, email="patron0+tag@example.org"),
        patron(3, status="Former patron"),
        patron(3),
    ) == ["new", "duplicate", "duplicate", "new", "skipped", "new"]


@pytest.mark.parametrize("size", [1, 2])
def test_a_person_listed_twice_is_found_across_pages(month: Month, size: int) -> None:
    people = [patron(0), patron(1), patron(0, email="x@example.org"), patron(4, email=patron(1).email)]
    month.apply(patron(0), patron(1))

    run = checked(month.group, patreon_export(people, NOVEMBER), by=month.owner, now=month.now, page=size)

    assert [row.verdict for row in run.rows.order_by("line")] == [
        "unchanged",
        "unchanged",
        *["duplicate"] * 2,
    ]


def test_the_outside_id_comes_before_the_address(month: Month) -> None:
    month.apply(patron(0), patron(1))

    run = month.apply(patron(0, email="new@example.org"), at=NOVEMBER)

    assert run.rows.get().former_address == "patron0@example.org"
    assert Contact.objects.get(address_key="new@example.org").outside_ids.get().value == patron(0).user_id


def test_a_known_address_takes_on_the_outside_id(month: Month, hobbyist: Group) -> None:
    known = ContactFactory.create(creator=month.group.creator, address_key="patron0@example.org", name="Old")
    MembershipFactory.create(group=hobbyist, contact=known)

    run = month.apply(patron(0))

    assert run.rows.get().verdict == Verdict.CHANGED
    known.refresh_from_db()
    assert (known.name, known.outside_ids.get().value) == ("Éloïse 0", patron(0).user_id)
    assert month.verdicts(patron(0)) == ["unchanged"]


def test_a_new_address_that_is_another_contact_s_is_not_taken(month: Month) -> None:
    month.apply(patron(0), patron(1))

    run = month.apply(patron(0, email=patron(1).email, tier="Merchant"), patron(1), at=NOVEMBER)

    assert [(row.verdict, row.flag) for row in run.rows.order_by("line")] == [
        ("moved", "taken"),
        ("unchanged", ""),
    ]
    assert Contact.objects.get(outside_ids__value=patron(0).user_id).address_key == patron(0).email


def test_an_address_may_pass_from_one_person_to_the_next(month: Month) -> None:
    month.apply(patron(0), patron(1))
    people = [
        patron(0, email="fresh@example.org"),
        patron(1, email=patron(0).email),
        patron(2, email=patron(1).email),
    ]
    for page in (1, 10):
        run = checked(month.group, patreon_export(people, NOVEMBER), by=month.owner, now=month.now, page=page)
        assert [row.verdict for row in run.rows.order_by("line")] == ["changed", "changed", "new"]

    applied(run, by=month.owner, now=month.now)

    ids = dict(OutsideId.objects.values_list("value", "contact__address_key"))
    assert ids == {one.user_id: one.email for one in people}


def test_a_new_address_brings_its_verified_owner_and_keeps_the_account_otherwise(month: Month) -> None:
    redeemer, owner_of_new = UserFactory.create(), UserFactory.create(email="hers@example.org")
    month.apply(patron(0), patron(1))
    Contact.objects.update(account=redeemer)

    month.apply(patron(0, email="hers@example.org"), patron(1, email="nobodys@example.org"), at=NOVEMBER)

    accounts = dict(Contact.objects.values_list("address_key", "account"))
    assert accounts == {"hers@example.org": owner_of_new.pk, "nobodys@example.org": redeemer.pk}


def test_a_list_without_ids_fills_in_names_and_corrects_none(month: Month, patrons: Group) -> None:
    for name, email in (("", "a@example.org"), ("Bob", "b@example.org")):
        contact = ContactFactory.create(creator=patrons.creator, address_key=email, name=name)
        MembershipFactory.create(group=patrons, contact=contact)

    content = b"Email,Name\na@example.org,Ana\nb@example.org,Robert\n"
    run = applied(checked(patrons, content, by=month.owner, now=month.now), by=month.owner, now=month.now)

    assert [row.verdict for row in run.rows.order_by("line")] == ["changed", "unchanged"]
    assert list(Contact.objects.order_by("address_key").values_list("name", flat=True)) == ["Ana", "Bob"]


def test_who_was_put_into_the_main_group_by_hand_stays_there(month: Month, patrons: Group) -> None:
    guest = ContactFactory.create(creator=patrons.creator, address_key=patron(0).email, name=patron(0).name)
    MembershipFactory.create(group=patrons, contact=guest)

    month.apply(patron(0), patron(1))
    assert [held.group for held in guest.memberships.all()] == [patrons]
    # And is not gone when no longer listed.
    month.apply(patron(1), at=NOVEMBER, gone_at=NOVEMBER)
    assert guest.memberships.get().ended_at is None


def test_who_was_put_into_a_tier_by_hand_is_the_list_s_once_listed(month: Month, hobbyist: Group) -> None:
    contact = ContactFactory.create(
        creator=month.group.creator, address_key=patron(0).email, name=patron(0).name
    )
    MembershipFactory.create(group=hobbyist, contact=contact)
    other = MembershipFactory.create(group=hobbyist)

    run = month.apply(patron(0), patron(1))
    assert contact.memberships.get().brought_by == run
    november = month.check(patron(1), at=NOVEMBER)

    assert [left.contact for left in gone_memberships(november)] == [contact]
    other.refresh_from_db()
    assert other.brought_by is None


def test_who_came_by_a_list_into_the_main_group_moves_to_the_tier(
    month: Month, patrons: Group, hobbyist: Group
) -> None:
    run = checked(patrons, plain_list([patron(0).email]), by=month.owner, now=month.now)
    applied(run, by=month.owner, now=month.now)

    month.apply(patron(0))

    # The list was pasted today, the export speaks of October: the shortest period, then the tier.
    first, second = Membership.objects.order_by("started_at")
    assert (first.group, first.started_at, first.ended_at) == (
        patrons,
        month.now,
        month.now + timedelta(microseconds=1),
    )
    assert (second.group, second.started_at) == (hobbyist, first.ended_at)


def test_a_list_without_ids_ends_only_whom_such_lists_brought(month: Month, patrons: Group) -> None:
    month.apply(patron(0))
    lists = [plain_list(["a@example.org", "b@example.org"]), plain_list(["a@example.org"])]
    later = month.now + timedelta(days=1)
    for content, at in zip(lists, (month.now, later), strict=True):
        run = checked(patrons, content, by=month.owner, now=at)
        applied(run, by=month.owner, now=at, gone_at=at, typed="Patrons")

    live = Membership.objects.live(later).order_by("contact__address_key")
    assert [held.contact.address_key for held in live] == ["a@example.org", "patron0@example.org"]


def test_a_listed_member_whose_row_cannot_be_used_is_not_gone(month: Month) -> None:
    month.apply(patron(0), patron(1), patron(2), patron(3))

    run = month.check(
        patron(0, name="A\nB"), patron(1, tier="Unheard of"), patron(2, email="nobody"), at=NOVEMBER
    )

    assert [row.verdict for row in run.rows.order_by("line")] == ["bad", "unmapped", "bad"]
    assert [left.contact.address_key for left in gone_memberships(run)] == ["patron3@example.org"]


def test_an_expiry_in_the_future_is_a_planned_end_and_beats_the_status(month: Month) -> None:
    month.apply(
        patron(0, status="Former patron", until="2026-10-20 00:00:00"),
        patron(1, status="Former patron", until="2026-09-20 00:00:00"),
        patron(2, until="2026-09-20 00:00:00"),
    )

    ends = dict(Membership.objects.values_list("contact__address_key", "ended_at"))
    assert ends == {"patron0@example.org": datetime(2026, 10, 20, tzinfo=UTC), "patron2@example.org": None}


def test_a_planned_end_is_moved_and_taken_back(month: Month) -> None:
    month.apply(patron(0, until="2026-11-20 00:00:00"))
    for until, end in (("2026-12-20 00:00:00", datetime(2026, 12, 20, tzinfo=UTC)), ("", None)):
        run = month.apply(patron(0, until=until), at=NOVEMBER)
        assert run.rows.get().verdict == Verdict.CHANGED
        assert Membership.objects.get().ended_at == end


def test_an_end_before_the_period_began_is_no_end(month: Month, hobbyist: Group) -> None:
    contact = ContactFactory.create(
        creator=month.group.creator, address_key=patron(0).email, name=patron(0).name
    )
    MembershipFactory.create(group=hobbyist, contact=contact, started_at=month.now)
    month.apply(patron(0, until="2026-10-20 00:00:00"))

    assert Membership.objects.get().ended_at is None


def test_a_move_into_a_tier_that_ends_at_once_keeps_its_order(month: Month, patrons: Group) -> None:
    run = checked(patrons, plain_list([patron(0).email]), by=month.owner, now=month.now)
    applied(run, by=month.owner, now=month.now)

    month.apply(patron(0, until="2026-10-20 00:00:00"))

    assert not Membership.objects.live(month.now + timedelta(seconds=1)).exists()
    assert Membership.objects.count() == 2


def test_a_patronage_that_began_after_the_file_began_with_the_file(month: Month) -> None:
    month.apply(patron(0, since="2026-10-09 00:00:00"))

    assert Membership.objects.get().started_at == OCTOBER


def test_without_a_date_in_the_file_it_speaks_of_its_upload(month: Month) -> None:
    content = patreon_export([patron(0)], OCTOBER).replace(b"2026-10-02 03:00:00", b"soon")

    assert checked(month.group, content, by=month.owner, now=month.now).as_of == month.now


def test_a_file_from_the_future_speaks_of_now(month: Month) -> None:
    assert month.check(patron(0), at=month.now + timedelta(days=1)).as_of == month.now


def test_a_status_column_of_another_format_lets_everybody_in_until_told(month: Month) -> None:
    content = (
        b"Email,Pledged Status,Reward\na@example.org,collected,Hobbyist\nb@example.org,dropped,Hobbyist\n"
    )
    run = checked(month.group, content, by=month.owner, now=month.now)
    assert summarise(run).verdicts["new"] == 2

    run = checked(month.group, content, by=month.owner, now=month.now, statuses=frozenset({"collected"}))
    assert summarise(run).skipped == {"dropped": 1}


def test_the_world_may_move_between_dry_run_and_import(
    month: Month, hobbyist: Group, collector: Group
) -> None:
    run = month.check(patron(0), patron(1), patron(3))
    known = ContactFactory.create(
        creator=month.group.creator, address_key=patron(0).email, name=patron(0).name
    )
    start_membership(hobbyist, known, now=month.now)
    archive_group(collector, now=month.now)

    applied(run, by=month.owner, now=month.now)

    assert [row.verdict for row in run.rows.order_by("line")] == ["changed", "unmapped", "new"]
    assert known.memberships.count() == 1
    assert summarise(run).joining == {hobbyist.pk: 1}
    assert not Membership.objects.filter(group=collector).exists()


def test_ids_of_another_creator_s_people_mean_nothing(month: Month, stranger: User) -> None:
    theirs = ContactFactory.create(creator=stranger.staff_of.get().creator, address_key=patron(0).email)
    OutsideId.objects.create(
        creator=theirs.creator, contact=theirs, source="patreon", value=patron(0).user_id
    )

    month.apply(patron(0, name="Mine"))

    theirs.refresh_from_db()
    assert theirs.name != "Mine"
    assert not theirs.memberships.exists()


def test_each_kind_of_place_raises_its_roster_once_a_page(
    month: Month, hobbyist: Group, merchant: Group
) -> None:
    run = month.check(patron(0), patron(3), patron(1))
    request_apply(run, consent=True, gone_at=None, by=month.owner, now=month.now)
    assert apply_import(run.pk, now=month.now, page=2)

    versions = dict(Group.objects.values_list("name", "roster_version"))
    assert versions == {"Patrons": 2, "Hobbyist": 1, "Collector": 1, "Merchant": 0}
    assert samples.TIERS == ("Hobbyist", "Collector", "Merchant")
