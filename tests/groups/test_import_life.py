"""An import's life: what is refused at each step, and that nothing has changed then."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.core.files.storage import default_storage
from django.db import IntegrityError
from django.utils import timezone
from kombu.exceptions import OperationalError

from accounts.models import AuditEvent, User
from groups import tasks
from groups.imports.formats import GENERIC, Field
from groups.imports.mapping import Mapping
from groups.imports.people import Survey, survey_rows
from groups.imports.reading import FileRefused, Row
from groups.models import Contact, Group, Import, ImportRow, Membership
from groups.services import (
    apply_import,
    check_import,
    choose_columns,
    choose_mapping,
    paste_list,
    preview_rows,
    request_apply,
    summarise,
)
from groups.services import imports as service
from groups.services.imports import (
    ChoiceRefused,
    ConsentMissing,
    ImportRunning,
    NotChecked,
    OlderThanLast,
    WordMissing,
)
from groups.services.memberships import GroupArchived
from tests import samples
from tests.groups.flow import applied, checked, opened

pytestmark = pytest.mark.usefixtures("hobbyist", "collector", "merchant")
OCTOBER = samples.patreon_export(samples.october(), samples.OCTOBER)


def stored_files(group: Group) -> list[str]:
    folder = f"imports/{group.creator_id}"
    return default_storage.listdir(folder)[1] if default_storage.exists(folder) else []


def test_an_upload_is_stored_recognised_and_counted(
    patrons: Group, hobbyist: Group, owner: User, now: datetime
) -> None:
    run = opened(patrons, OCTOBER, by=owner, now=now, name="members\u202e.csv")

    assert len(stored_files(patrons)) == 1
    assert (run.group, run.state, run.format, run.by) == (patrons, "opened", "patreon-2026", owner)
    assert run.file_name == "members�.csv"
    survey = Survey.from_json(run.survey)
    assert (survey.rows, survey.whole) == (24, True)
    assert survey.statuses == {
        "Active patron": 18,
        "Declined patron": 2,
        "Former patron": 2,
        "Free member": 2,
    }
    assert sum(survey.tiers.values()) == 18
    mapping = Mapping.from_json(run.mapping)
    assert mapping.statuses == {"active patron"}
    assert mapping.tiers["hobbyist"] == hobbyist.pk
    assert [row.cells[1] for row in preview_rows(run, number=2) if isinstance(row, Row)] == [
        "patron0@example.org",
        "patron1@example.org",
    ]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04xl/", b"Name,Tier\nAna,Gold\n", b"Email\n"])
def test_a_refused_file_leaves_nothing_behind(
    patrons: Group, owner: User, now: datetime, content: bytes
) -> None:
    with pytest.raises(FileRefused):
        opened(patrons, content, by=owner, now=now)

    assert not Import.objects.exists()
    assert not stored_files(patrons)


def test_a_file_beyond_the_limit_is_refused_before_it_is_read(
    patrons: Group, owner: User, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LARGEST_FILE", 10)
    with pytest.raises(FileRefused, match="256 MB"):
        opened(patrons, OCTOBER, by=owner, now=now)


def test_a_file_whose_row_cannot_be_written_is_taken_away(patrons: Group, owner: User) -> None:
    with pytest.raises(IntegrityError):
        opened(patrons, OCTOBER, by=owner, now=None)  # type: ignore[arg-type]

    assert default_storage.exists(f"imports/{patrons.creator_id}")
    assert not stored_files(patrons)


def test_an_archived_group_is_imported_into_by_nobody(patrons: Group, owner: User, now: datetime) -> None:
    patrons.archived_at = now
    with pytest.raises(GroupArchived):
        opened(patrons, OCTOBER, by=owner, now=now)


@pytest.mark.parametrize(
    "text",
    [
        "ana@example.org\r\nbob@example.org\n\n",
        "ana@example.org; bob@example.org",
        "ana@example.org, bob@example.org",
        "ana@example.org bob@example.org",
        'Ana <ana@example.org>; "Stone, Bob" <bob@example.org>',
    ],
)
def test_a_pasted_list_is_an_import_like_any_other(
    patrons: Group, hobbyist: Group, owner: User, now: datetime, text: str
) -> None:
    run = paste_list(hobbyist, text, by=owner, now=now)
    assert (run.format, run.group) == ("plain-list", patrons)
    choose_mapping(run, Mapping.from_json(run.mapping), now=now)
    check_import(run.pk, now=now)
    run.refresh_from_db()
    applied(run, by=owner, now=now)

    assert run.as_of == now
    people = Membership.objects.filter(group=hobbyist).order_by("contact__address_key")
    assert [held.contact.address_key for held in people] == ["ana@example.org", "bob@example.org"]


@pytest.mark.parametrize("text", ["", " \n ", "no address here", "\udc80"])
def test_nothing_pasted_is_refused(patrons: Group, owner: User, now: datetime, text: str) -> None:
    with pytest.raises(FileRefused, match=r"\.$"):
        paste_list(patrons, text, by=owner, now=now)
    assert not Import.objects.exists()


def test_other_columns_can_be_chosen_and_are_counted_anew(
    patrons: Group, merchant: Group, owner: User, now: datetime
) -> None:
    content = b"Courriel,Nom,Palier\na@example.org,A,Merchant\nb@example.org,B,Gold\n"
    run = opened(patrons, content, by=owner, now=now)
    assert run.format == "generic"
    assert Field.TIER not in Mapping.from_json(run.mapping).columns

    columns = {Field.ADDRESS: "Courriel", Field.NAME: "Nom", Field.TIER: "Palier", Field.STATUS: ""}
    choose_columns(run, columns)

    assert Survey.from_json(run.survey).tiers == {"Merchant": 1, "Gold": 1}
    assert Mapping.from_json(run.mapping).columns[Field.TIER] == "Palier"
    assert Mapping.from_json(run.mapping).tiers["merchant"] == merchant.pk


@pytest.mark.parametrize(
    "columns",
    [{}, {Field.ADDRESS: "Elsewhere"}, {Field.ADDRESS: "Email", Field.OUTSIDE_ID: "Name"}],
)
def test_columns_the_file_has_not_are_refused(
    patrons: Group, owner: User, now: datetime, columns: dict[Field, str]
) -> None:
    run = opened(patrons, b"Email,Name\na@example.org,A\n", by=owner, now=now)
    with pytest.raises(ChoiceRefused):
        choose_columns(run, columns)

    assert Import.objects.get().mapping == run.mapping


def test_choices_outside_the_file_or_the_tree_are_refused(
    patrons: Group, hobbyist: Group, stranger: User, owner: User, now: datetime
) -> None:
    run = opened(patrons, OCTOBER, by=owner, now=now)
    mapping = Mapping.from_json(run.mapping)
    elsewhere = Group.objects.create(creator=stranger.staff_of.get().creator, name="x", created_at=now)
    Group.objects.filter(pk=hobbyist.pk).update(archived_at=now)
    for wrong in (
        replace(mapping, target=elsewhere.pk),
        replace(mapping, tiers={"x": elsewhere.pk}),
        replace(mapping, tiers={"x": hobbyist.pk}),
        replace(mapping, columns={Field.ADDRESS: "Name"}),
    ):
        with pytest.raises(ChoiceRefused):
            choose_mapping(run, wrong, now=now)

    assert Import.objects.get().state == Import.State.OPENED


def test_choosing_again_starts_the_dry_run_afresh(
    patrons: Group, hobbyist: Group, owner: User, now: datetime
) -> None:
    run = checked(patrons, OCTOBER, by=owner, now=now)
    epoch = run.epoch
    fewer = replace(Mapping.from_json(run.mapping), tiers={"hobbyist": hobbyist.pk})

    choose_mapping(run, fewer, as_of=now + timedelta(days=9), now=now)

    assert (run.state, run.cursor, run.epoch, run.as_of) == ("checking", 0, epoch + 1, now)
    assert check_import(run.pk, now=now)
    run.refresh_from_db()
    summary = summarise(run)
    assert (summary.verdicts["new"], summary.unmapped) == (6, {"Collector": 7, "Merchant": 5})
    assert ImportRow.objects.count() == summary.rows == 24
    assert summary.accepted == 6


def test_consent_a_finished_check_and_nothing_newer_are_asked_for(
    patrons: Group, owner: User, now: datetime
) -> None:
    run = opened(patrons, OCTOBER, by=owner, now=now)
    with pytest.raises(NotChecked):
        request_apply(run, consent=True, gone_at=None, by=owner, now=now)
    run = checked(patrons, OCTOBER, by=owner, now=now)
    with pytest.raises(ConsentMissing):
        request_apply(run, consent=False, gone_at=None, by=owner, now=now)
    november = samples.patreon_export(samples.november(), samples.NOVEMBER)
    applied(checked(patrons, november, by=owner, now=now), by=owner, now=now)
    with pytest.raises(OlderThanLast, match=r"members\.csv"):
        request_apply(run, consent=True, gone_at=None, by=owner, now=now)

    run.refresh_from_db()
    assert (run.state, run.consented_at) == (Import.State.CHECKED, None)


def test_asking_twice_applies_once(patrons: Group, owner: User, now: datetime) -> None:
    run = checked(patrons, OCTOBER, by=owner, now=now)
    for _time in range(2):
        request_apply(run, consent=True, gone_at=None, by=owner, now=now)
    assert AuditEvent.objects.filter(verb="applied import").count() == 1

    assert apply_import(run.pk, now=now)
    assert not apply_import(run.pk, now=now)
    request_apply(run, consent=True, gone_at=None, by=owner, now=now)

    assert run.state == Import.State.DONE
    assert (run.by, run.consented_at) == (owner, now)
    with pytest.raises(NotChecked):
        choose_mapping(run, Mapping.from_json(run.mapping), now=now)


def test_one_import_into_a_main_group_at_a_time(patrons: Group, owner: User, now: datetime) -> None:
    first, second = (checked(patrons, OCTOBER, by=owner, now=now) for _number in range(2))
    request_apply(first, consent=True, gone_at=None, by=owner, now=now)

    with pytest.raises(ImportRunning):
        request_apply(second, consent=True, gone_at=None, by=owner, now=now)

    second.refresh_from_db()
    assert second.state == Import.State.CHECKED
    assert AuditEvent.objects.count() == 1
    apply_import(first.pk, now=now)
    request_apply(second, consent=True, gone_at=None, by=owner, now=now)


def test_a_truncated_file_that_would_end_a_third_asks_for_the_group_s_name(
    patrons: Group, owner: User, now: datetime
) -> None:
    applied(checked(patrons, OCTOBER, by=owner, now=now), by=owner, now=now)
    content = samples.patreon_export(samples.november()[:9], samples.NOVEMBER)
    run = checked(patrons, content, by=owner, now=now)
    assert summarise(run).asks_for_word

    with pytest.raises(WordMissing, match="type “Patrons”"):
        request_apply(run, consent=True, gone_at=run.as_of, typed="patron", by=owner, now=now)
    run.refresh_from_db()
    assert run.state == Import.State.CHECKED

    applied(run, by=owner, now=now, gone_at=run.as_of, typed=" patrons ")
    assert summarise(run).ended == summarise(run).gone > 6


def test_keeping_the_gone_asks_for_no_word(patrons: Group, owner: User, now: datetime) -> None:
    applied(checked(patrons, OCTOBER, by=owner, now=now), by=owner, now=now)
    content = samples.patreon_export(samples.november()[:9], samples.NOVEMBER)

    applied(checked(patrons, content, by=owner, now=now), by=owner, now=now)

    assert Membership.objects.filter(ended_at=None).count() >= 17


def test_a_planned_end_for_the_gone_comes_to_the_same_twice(
    patrons: Group, owner: User, now: datetime
) -> None:
    applied(checked(patrons, OCTOBER, by=owner, now=now), by=owner, now=now)
    november = samples.patreon_export(samples.november(), samples.NOVEMBER)
    end = datetime(2026, 12, 1, tzinfo=UTC)
    for ended in (2, 0):
        run = applied(checked(patrons, november, by=owner, now=now), by=owner, now=now, gone_at=end)
        # Three are gone; the one whose access ran out on 14 November keeps that earlier end.
        assert (summarise(run).gone, summarise(run).ended) == (3, ended)

    assert Membership.objects.filter(ended_at=end).count() == 2


def test_a_lost_file_refuses_the_import_in_words(patrons: Group, owner: User, now: datetime) -> None:
    run = opened(patrons, OCTOBER, by=owner, now=now)
    choose_mapping(run, Mapping.from_json(run.mapping), now=now)
    default_storage.delete(run.stored_as)

    assert not check_import(run.pk, now=now)

    run.refresh_from_db()
    assert run.state == Import.State.REFUSED
    assert "Upload it again" in run.reason


def test_numbers_of_an_import_that_was_not_checked_are_zero(
    patrons: Group, owner: User, now: datetime
) -> None:
    summary = summarise(opened(patrons, OCTOBER, by=owner, now=now))

    assert (summary.rows, summary.gone, summary.asks_for_word) == (0, 0, False)


def test_the_sweep_brings_on_what_waits_and_a_broken_one_stops_nobody(
    patrons: Group, owner: User, caplog: pytest.LogCaptureFixture
) -> None:
    # The sweep reads the clock: to it a list of another day is one to be forgotten.
    now = timezone.now()
    broken, good = (opened(patrons, OCTOBER, by=owner, now=now) for _number in range(2))
    for run in (broken, good):
        choose_mapping(run, Mapping.from_json(run.mapping), now=now)
    Import.objects.filter(pk=broken.pk).update(layout={})

    tasks.sweep()
    tasks.wake()

    good.refresh_from_db()
    assert good.state == Import.State.CHECKED
    assert f"import {broken.pk}" in caplog.text
    request_apply(good, consent=True, gone_at=None, by=owner, now=now)
    tasks.sweep()
    assert Contact.objects.count() == 18


def test_without_a_broker_the_sweep_comes_by_itself(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away() -> None:
        raise OperationalError

    monkeypatch.setattr(tasks.sweep, "delay", away)
    tasks.wake()

    assert "no broker" in caplog.text


def test_a_column_of_endless_values_is_counted_in_bounded_memory() -> None:
    rows = [Row(line, ["a@example.org", f"tier {line}"]) for line in range(400)]

    survey = survey_rows(rows, {Field.ADDRESS: 0, Field.TIER: 1}, GENERIC)

    assert (survey.rows, len(survey.tiers)) == (400, 200)
