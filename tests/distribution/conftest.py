"""A release for the patrons, and what it takes to give it."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from threading import Barrier
from typing import Any, TypeVar

import pytest
from django.db import connection, transaction

from accounts.models import User
from distribution import services
from distribution.models import Grant, Release
from distribution.tickets import issue_ticket
from groups.models import Contact, Group
from tests import factories

T = TypeVar("T")
Give = Callable[..., Release]


@pytest.fixture
def release(patrons: Group) -> Release:
    """A draft of one bundle for everybody in the patrons' tree."""
    bundle = factories.BundleFactory.create(creator=patrons.creator, title="Dragon")
    return factories.ReleaseFactory.create(
        creator=patrons.creator, title="October", bundles=[bundle], groups=[patrons]
    )


@pytest.fixture
def give(release: Release, owner: User, now: datetime) -> Give:
    """Confirms a draft and gives it."""

    def given(draft: Release = release, page: int = 10_000) -> Release:
        by = factories.owner_of(draft.creator)
        services.confirm_release(draft, publish_at=now, by=by, now=now)
        assert services.fan_out_grants(draft.pk, now=now, page=page)
        draft.refresh_from_db()
        return draft

    return given


@pytest.fixture
def ana(hobbyist: Group) -> Contact:
    """A hobbyist without an account."""
    contact: Contact = factories.ContactFactory.create(
        creator=hobbyist.creator, address_key="ana@example.org", name="Ana"
    )
    factories.MembershipFactory.create(group=hobbyist, contact=contact)
    return contact


@pytest.fixture
def grant(give: Give, ana: Contact) -> Grant:
    """What waits for Ana, who has no account."""
    give()
    return Grant.objects.get(contact=ana)


@pytest.fixture
def ticket(grant: Grant) -> str:
    return issue_ticket(grant.pk, grant.generation)


def at_once(count: int, call: Callable[[int], T]) -> list[T]:
    """The outcomes of `count` calls from as many threads that start together, each on its own connection."""
    start = Barrier(count)

    def one(number: int) -> T:
        try:
            start.wait()
            return call(number)
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


class Killed(BaseException):
    """Nobody catches this: as if the process were gone."""


@contextmanager
def killed_at(statement: int) -> Iterator[None]:
    """The process dies before its n-th statement from here on; what was not committed is lost."""
    count = 0

    def die(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal count
        count += 1
        if count == statement:
            raise Killed
        return execute(sql, params, many, context)

    try:
        with connection.execute_wrapper(die):
            yield
    except Killed:
        pass


@contextmanager
def undone() -> Iterator[None]:
    """One example of a property: its rows are gone afterwards."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)
