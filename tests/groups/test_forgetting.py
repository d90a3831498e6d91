"""What was uploaded about people is kept for thirty days, and a creator who waits for approval brings in little."""

from datetime import datetime, timedelta

import pytest
from django.conf import LazySettings
from django.core.files.storage import default_storage
from django.test import Client
from django.urls import reverse

from accounts.models import User
from groups.imports.reading import FileRefused
from groups.models import Contact, Group, Import, ImportRow, Membership
from groups.services import choose_columns, forget_old_imports, paste_list, summarise
from groups.services.imports import NotChecked
from tests.groups.flow import applied, checked, opened

pytestmark = pytest.mark.django_db

LIST = b"email\nana@example.org\nben@example.org\n"
MONTH = timedelta(days=30)
MOMENT = timedelta(seconds=1)


def test_file_and_rows_are_gone_after_thirty_days_and_the_numbers_stay(
    patrons: Group, owner: User, now: datetime
) -> None:
    done = applied(checked(patrons, LIST, by=owner, now=now), by=owner, now=now)
    assert forget_old_imports(now=now + MONTH) == 0
    assert default_storage.exists(done.stored_as)
    assert done.rows.count() == 2
    assert forget_old_imports(now=now + MONTH + MOMENT) == 1
    assert not default_storage.exists(done.stored_as)
    assert not ImportRow.objects.exists()
    done.refresh_from_db()
    assert (done.state, done.stored_as, summarise(done).verdicts["new"]) == ("done", "", 2)
    assert Membership.objects.filter(brought_by=done).count() == Contact.objects.count() == 2
    assert forget_old_imports(now=now + MONTH + MOMENT) == 0


def test_one_that_waits_for_a_choice_is_refused_and_says_why(
    client: Client, patrons: Group, owner: User, now: datetime
) -> None:
    waiting = [opened(patrons, LIST, by=owner, now=now), checked(patrons, LIST, by=owner, now=now)]
    underway = opened(patrons, LIST, by=owner, now=now)
    Import.objects.filter(pk=underway.pk).update(state="applying")
    assert forget_old_imports(now=now + MONTH + MOMENT) == 2
    client.force_login(owner)
    for run in waiting:
        run.refresh_from_db()
        assert (run.state, run.stored_as, run.rows.count()) == ("refused", "", 0)
        with pytest.raises(NotChecked):
            choose_columns(run, {})
        here = reverse("studio:import", args=[patrons.creator.slug, run.pk])
        assert "kept for thirty days" in client.get(here).content.decode()
        choose = reverse("studio:choose_mapping", args=[patrons.creator.slug, run.pk])
        assert client.get(choose)["Location"] == here
    underway.refresh_from_db()
    assert default_storage.exists(underway.stored_as)


def test_the_page_of_a_forgotten_one_keeps_its_numbers_and_calls_nobody_gone(
    client: Client, patrons: Group, owner: User, now: datetime
) -> None:
    applied(checked(patrons, LIST, by=owner, now=now), by=owner, now=now)
    run = checked(patrons, LIST.replace(b"ben@example.org\n", b""), by=owner, now=now)
    applied(run, by=owner, now=now)
    assert summarise(run).gone == 1
    forget_old_imports(now=now + MONTH + MOMENT)
    client.force_login(owner)
    for part in ("gone", "unchanged"):
        address = reverse("studio:import", args=[patrons.creator.slug, run.pk])
        page = client.get(address, {"part": part}).content.decode()
        assert "The rows are not kept any more" in page
        assert "example.org</" not in page


@pytest.fixture
def unapproved(patrons: Group, settings: LazySettings) -> Group:
    settings.UNAPPROVED_ROWS, settings.UNAPPROVED_IMPORTS = 2, 2
    patrons.creator.approved_at = None
    patrons.creator.save(update_fields=["approved_at"])
    return patrons


def test_a_creator_who_waits_for_approval_brings_in_small_lists_and_few(
    unapproved: Group, owner: User, now: datetime
) -> None:
    with pytest.raises(FileRefused, match="a list may have 2 rows"):
        opened(unapproved, LIST + b"cleo@example.org\n", by=owner, now=now)
    with pytest.raises(FileRefused, match="a list may have 2 rows"):
        opened(unapproved, b"email\nana@example.org\n" + b"\n" * 2_000, by=owner, now=now)
    opened(unapproved, LIST, by=owner, now=now)
    paste_list(unapproved, "ana@example.org", by=owner, now=now)
    stored = default_storage.listdir(f"imports/{unapproved.creator_id}")[1]
    with pytest.raises(FileRefused, match="2 lists are kept"):
        opened(unapproved, LIST, by=owner, now=now)
    assert default_storage.listdir(f"imports/{unapproved.creator_id}")[1] == stored
    assert Import.objects.count() == 2
    # What is forgotten makes room.
    forget_old_imports(now=now + MONTH + MOMENT)
    opened(unapproved, LIST, by=owner, now=now + MONTH + MOMENT)


def test_an_approved_creator_is_not_held_to_it(unapproved: Group, owner: User, now: datetime) -> None:
    unapproved.creator.approved_at = now
    unapproved.creator.save(update_fields=["approved_at"])
    for _time in range(3):
        opened(unapproved, LIST + b"cleo@example.org\n", by=owner, now=now)
    assert Import.objects.count() == 3
