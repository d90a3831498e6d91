"""Guards under real threads, on PostgreSQL."""

from collections.abc import Callable
from datetime import datetime
from threading import Barrier, Thread

import pytest
from django.conf import LazySettings
from django.db import connection

from accounts.models import User
from groups.imports.reading import FileRefused
from groups.models import Contact, Creator, Group, Import, Membership
from groups.services import (
    add_contact,
    add_sub_groups,
    apply_import,
    check_import,
    request_apply,
    start_membership,
)
from groups.services.imports import ImportRunning
from groups.services.memberships import AlreadyInTree
from tests import samples
from tests.factories import ContactFactory
from tests.groups.flow import checked, opened

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("hobbyist", "collector", "merchant"),
]
OCTOBER = samples.patreon_export(samples.october(), samples.OCTOBER)


def at_once(*calls: Callable[[], object]) -> list[object]:
    """What each call gave or raised, all of them let go in the same moment."""
    outcomes: list[object] = [None] * len(calls)
    gate = Barrier(len(calls))

    def run(number: int, call: Callable[[], object]) -> None:
        gate.wait()
        try:
            outcomes[number] = call()
        except Exception as error:
            outcomes[number] = error
        finally:
            connection.close()

    threads = [Thread(target=run, args=[number, call]) for number, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_a_contact_added_to_three_tiers_at_once_has_one_place(
    patrons: Group, hobbyist: Group, collector: Group, now: datetime
) -> None:
    for _round in range(10):
        contact = ContactFactory.create(creator=patrons.creator)
        outcomes = at_once(
            *(
                lambda group=group, contact=contact: start_membership(group, contact, now=now)
                for group in (patrons, hobbyist, collector)
            )
        )
        assert sum(isinstance(outcome, AlreadyInTree) for outcome in outcomes) == 2
        assert contact.memberships.count() == 1


def test_the_same_address_added_at_once_is_one_contact(patrons: Group, now: datetime) -> None:
    outcomes = at_once(*[lambda: add_contact(patrons.creator, "ana@example.org", "Ana", now=now)] * 6)

    assert set(outcomes) == {Contact.objects.get()}


def test_two_imports_asked_for_at_once_run_one_at_a_time(patrons: Group, owner: User, now: datetime) -> None:
    runs = [checked(patrons, OCTOBER, by=owner, now=now) for _number in range(4)]

    outcomes = at_once(
        *(lambda run=run: request_apply(run, consent=True, gone_at=None, by=owner, now=now) for run in runs)
    )

    assert sum(isinstance(outcome, ImportRunning) for outcome in outcomes) == 3
    assert Import.objects.filter(state=Import.State.APPLYING).count() == 1


def test_workers_rung_at_once_apply_an_import_once(patrons: Group, owner: User, now: datetime) -> None:
    run = checked(patrons, OCTOBER, by=owner, now=now)
    request_apply(run, consent=True, gone_at=None, by=owner, now=now)

    outcomes = at_once(*[lambda: apply_import(run.pk, now=now, page=3)] * 4)

    assert sorted(outcomes) == [False, False, False, True]
    assert Membership.objects.count() == Contact.objects.count() == 18
    assert not check_import(run.pk, now=now)


def test_people_added_by_hand_during_an_import_have_one_place(
    patrons: Group, hobbyist: Group, owner: User, now: datetime
) -> None:
    run = checked(patrons, OCTOBER, by=owner, now=now)
    request_apply(run, consent=True, gone_at=None, by=owner, now=now)

    def by_hand() -> None:
        for one in samples.october():
            contact = add_contact(patrons.creator, one.email, one.name, now=now)
            try:
                start_membership(patrons, contact, now=now)
            except AlreadyInTree:
                continue

    outcomes = at_once(by_hand, lambda: apply_import(run.pk, now=now, page=2))

    assert outcomes == [None, True]
    for contact in Contact.objects.all():
        assert contact.memberships.unended(now).count() == 1


def test_sub_groups_asked_for_twice_at_once_are_made_once(patrons: Group, owner: User, now: datetime) -> None:
    run = opened(patrons, OCTOBER, by=owner, now=now)
    tiers = {"dragons": "Dragons", "castles": "Castles"}

    outcomes = at_once(*[lambda: add_sub_groups(run, tiers, now=now)] * 6)

    made = dict(patrons.sub_groups.filter(name__in=tiers.values()).values_list("name", "pk"))
    assert outcomes == [{tier: made[name] for tier, name in tiers.items()}] * 6


def test_lists_brought_at_once_before_the_approval_are_no_more_than_so_many(
    patrons: Group, owner: User, now: datetime, settings: LazySettings
) -> None:
    settings.UNAPPROVED_IMPORTS = 2
    Creator.objects.update(approved_at=None)

    outcomes = at_once(*[lambda: opened(patrons, OCTOBER, by=owner, now=now)] * 6)

    assert sum(isinstance(outcome, FileRefused) for outcome in outcomes) == 4
    assert Import.objects.count() == 2
