"""A release on its way: a bundle, words and an audience, and the steps to the mails."""

from collections.abc import Callable
from datetime import datetime
from uuid import uuid4

import pytest

from accounts.models import User
from distribution.models import Release
from distribution.services import fan_out_grants
from groups.models import Contact, Creator, Group
from messaging import services
from messaging.models import Message
from messaging.providers import Provider, provider
from tests.factories import BundleFactory, ContactFactory, MembershipFactory, ReleaseFactory, owner_of


@pytest.fixture
def release(creator: Creator, hobbyist: Group) -> Release:
    bundle = BundleFactory.create(creator=creator, title="Dragon bust")
    return ReleaseFactory.create(creator=creator, title="November", bundles=[bundle], groups=[hobbyist])


@pytest.fixture
def people(hobbyist: Group) -> list[Contact]:
    """Five members; only their addresses are known."""
    contacts = [
        ContactFactory.create(creator=hobbyist.creator, name=f"Person {n}", address_key=f"p{n}@example.net")
        for n in range(5)
    ]
    for contact in contacts:
        MembershipFactory.create(group=hobbyist, contact=contact)
    return contacts


@pytest.fixture
def draft(release: Release) -> Message:
    message = services.start_message(release)
    message.subject, message.body = "The dragon is here", "Hi {first_name|friend},\n\nthe *dragon* is ready."
    message.save()
    return message


@pytest.fixture
def confirm(owner: User, now: datetime) -> Callable[..., Message]:
    def confirmed(message: Message, *, due_at: datetime | None = None, at: datetime | None = None) -> Message:
        return services.confirm_message(
            message,
            request_id=uuid4(),
            due_at=due_at or now,
            by=owner_of(message.release.creator),
            now=at or now,
        )

    return confirmed


@pytest.fixture
def start(now: datetime) -> Callable[..., Message]:
    def started(message: Message, *, at: datetime = now) -> Message:
        """Granted, planned and running."""
        fan_out_grants(message.release_id, now=at)
        services.plan_deliveries(message.pk, now=at)
        services.begin_sending(message.pk, now=at)
        message.refresh_from_db()
        return message

    return started


@pytest.fixture
def work(now: datetime) -> Callable[..., None]:
    def worked(way: Provider | None = None, *, at: datetime = now) -> None:
        services.send_waiting(
            owner="here:1", provider=way or provider(), clock=lambda: at, stop=lambda: False
        )

    return worked
