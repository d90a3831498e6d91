from datetime import datetime

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEvent, Suppression, User
from accounts.services import post_letter, record, suppress

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin(client: Client) -> User:
    admin = User.objects.create_superuser("root@example.org")
    client.force_login(admin)
    return admin


def test_an_admin_lifts_a_suppression_and_it_is_logged(client: Client, admin: User, now: datetime) -> None:
    suppress("a@b.example", Suppression.Reason.BOUNCE, now=now)
    page = reverse("admin:accounts_suppression_changelist")
    chosen = {"action": "lift", "_selected_action": [Suppression.objects.get().pk]}
    client.post(page, chosen)
    client.post(page, chosen)
    assert not Suppression.objects.live().exists()
    assert AuditEvent.objects.get().verb == "lifted suppression"


@pytest.mark.parametrize("model", ["letter", "suppression", "auditevent", "user"])
def test_rows_a_service_owns_can_be_looked_at_and_not_changed(
    client: Client, admin: User, now: datetime, model: str
) -> None:
    suppress("a@b.example", Suppression.Reason.BOUNCE, now=now)
    record(admin, "looked", "x", now=now)
    letter = post_letter(
        "code", "a@b.example", subject="s", text="secret 99", code="99", dedupe_key="1", now=now
    )
    assert client.get(reverse(f"admin:accounts_{model}_changelist")).status_code == 200
    assert client.get(reverse(f"admin:accounts_{model}_add")).status_code == 403
    seen = client.get(reverse("admin:accounts_letter_change", args=[letter.pk]))
    assert seen.status_code == 200
    assert "secret" not in seen.content.decode()


def test_a_person_who_is_no_admin_is_kept_out(client: Client, stranger: User) -> None:
    client.force_login(stranger)
    assert client.get(reverse("admin:index")).status_code in {302, 403}
