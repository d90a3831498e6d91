from datetime import datetime

import pytest

from accounts.models import AuditEvent, Suppression, User
from accounts.services import lift, record, suppress

pytestmark = pytest.mark.django_db


def test_a_suppressed_address_stays_so_for_its_first_reason_until_lifted(now: datetime) -> None:
    suppress("a@b.example", Suppression.Reason.BOUNCE, now=now)
    suppress("a@b.example", Suppression.Reason.COMPLAINT, now=now)
    assert Suppression.objects.live().get().reason == Suppression.Reason.BOUNCE
    assert lift("a@b.example", now=now)
    assert not lift("a@b.example", now=now)
    suppress("a@b.example", Suppression.Reason.COMPLAINT, now=now)
    assert Suppression.objects.live().get().reason == Suppression.Reason.COMPLAINT


def test_the_audit_log_keeps_who_did_what(owner: User, now: datetime) -> None:
    record(owner, "raised ceiling", "Patrons", creator_id=1, now=now)
    event = AuditEvent.objects.get()
    assert (event.actor, event.verb, event.subject, event.creator_id) == (
        owner,
        "raised ceiling",
        "Patrons",
        1,
    )
