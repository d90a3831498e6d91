from collections.abc import Callable
from datetime import datetime

import pytest
from django.conf import LazySettings

from accounts.addresses import AddressRefused
from accounts.models import AuditEvent, User
from groups.imports.values import ValueRefused
from groups.models import Creator, Staff
from groups.services import approve_creator, create_creator, pause_creator, resume_creator
from groups.services.creators import ByInvitationOnly, DetailsMissing, SlugTaken

DETAILS = {
    "name": "Mia's Minis",
    "slug": "mias-minis",
    "time_zone": "Europe/Berlin",
    "reply_to": "Mia@Example.org",
    "postal_address": "1 Mill Lane, 12345 Town",
}


def test_whoever_fills_in_the_form_owns_a_creator(member: User, now: datetime) -> None:
    creator = create_creator(member, **DETAILS, now=now)

    assert Staff.objects.get(creator=creator).user == member
    assert (creator.reply_to, creator.approved_at) == ("mia@example.org", now)
    assert AuditEvent.objects.get(creator_id=creator.pk).verb == "created creator"


def test_where_admins_approve_a_new_creator_waits(
    member: User, now: datetime, settings: LazySettings
) -> None:
    settings.CREATORS = "approved"

    assert create_creator(member, **DETAILS, now=now).approved_at is None


def test_where_creators_are_invited_only_an_admin_makes_one(
    member: User, now: datetime, settings: LazySettings
) -> None:
    settings.CREATORS = "invited"
    with pytest.raises(ByInvitationOnly):
        create_creator(member, **DETAILS, now=now)
    assert not Creator.objects.exists()

    member.is_staff = True
    assert create_creator(member, **DETAILS, now=now).approved_at is None


def test_the_second_of_the_same_slug_is_refused(member: User, creator: Creator, now: datetime) -> None:
    with pytest.raises(SlugTaken):
        create_creator(member, **{**DETAILS, "slug": creator.slug}, now=now)

    assert Staff.objects.filter(user=member).count() == 0


@pytest.mark.parametrize(
    ("field", "value", "refusal"),
    [
        ("name", " ", DetailsMissing),
        ("name", "Mia\r\nBcc: x", ValueRefused),
        ("postal_address", "", DetailsMissing),
        ("time_zone", "../../etc/passwd", DetailsMissing),
        ("time_zone", "Mars/Olympus", DetailsMissing),
        ("slug", "Mia's", DetailsMissing),
        ("slug", "mia\n", DetailsMissing),
        ("reply_to", "mia@localhost", AddressRefused),
    ],
)
def test_missing_and_impossible_details_are_refused(
    member: User, now: datetime, field: str, value: str, refusal: type[Exception]
) -> None:
    with pytest.raises(refusal, match=r"\.$"):
        create_creator(member, **{**DETAILS, field: value}, now=now)

    assert not Creator.objects.exists()


@pytest.mark.parametrize("service", [approve_creator, pause_creator, resume_creator])
def test_an_admin_acts_once_and_it_is_logged_once(
    creator: Creator, owner: User, now: datetime, service: Callable[..., bool]
) -> None:
    waiting = {approve_creator: {"approved_at": None}, resume_creator: {"paused_at": now}}
    Creator.objects.filter(pk=creator.pk).update(**waiting.get(service, {}))

    assert service(creator, by=owner, now=now)
    assert not service(creator, by=owner, now=now)

    creator.refresh_from_db()
    assert creator.approved_at
    assert (creator.paused_at is not None) == (service is pause_creator)
    assert AuditEvent.objects.filter(creator_id=creator.pk, actor=owner).count() == 1
