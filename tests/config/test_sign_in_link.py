"""A link printed in the terminal signs one person in, once."""

from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import time_machine
from allauth.account.models import EmailAddress
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from django.test import Client

from accounts.models import AuditEvent, User
from config import sign_in_link
from config.sign_in_link import LinkSpent, make_link, use_link
from groups.models import Creator


def path_of(link: str) -> str:
    return urlsplit(link).path


def signed_in_as(client: Client) -> str | None:
    return client.session.get("_auth_user_id")


def test_looking_at_the_link_changes_nothing_and_pressing_the_button_signs_in_once(member: User) -> None:
    path = path_of(make_link(member))
    client = Client()
    for _ in range(2):
        assert member.email in client.get(path).content.decode()
        assert client.head(path).status_code == 200
        assert signed_in_as(client) is None
    assert client.post(path).status_code == 302
    assert signed_in_as(client) == str(member.pk)
    for again in (Client().get(path), Client().post(path)):
        assert again.status_code == 410
    assert signed_in_as(Client()) is None


def test_an_owner_arrives_in_the_studio(creator: Creator, owner: User) -> None:
    assert Client().post(path_of(make_link(owner)))["Location"] == "/studio/"


def test_two_uses_at_once_are_one(member: User, now: datetime) -> None:
    token = path_of(make_link(member)).split("/")[-2]
    use_link(token, now=now)
    with pytest.raises(LinkSpent):
        use_link(token, now=now)


@pytest.mark.django_db
def test_an_old_a_forged_and_a_closed_accounts_link_open_nothing(member: User) -> None:
    with time_machine.travel(datetime.now(UTC) - timedelta(minutes=61)):
        old = make_link(member)
    good = path_of(make_link(member))
    assert Client().get(path_of(old)).status_code == 410
    assert Client().post(good[:-3] + "x/").status_code == 410
    member.is_active = False
    member.save(update_fields=["is_active"])
    assert Client().post(good).status_code == 410


@pytest.mark.django_db
def test_createadmin_makes_an_admin_whose_link_opens_the_admin_pages() -> None:
    out = StringIO()
    call_command("createadmin", "Root@Example.org", stdout=out)
    admin = User.objects.get()
    assert (admin.email, admin.is_superuser, admin.is_staff) == ("root@example.org", True, True)
    assert EmailAddress.objects.filter(user=admin, verified=True, primary=True).exists()
    client = Client()
    assert client.post(path_of(out.getvalue().split()[-1]))["Location"] == "/admin/"
    assert client.get("/admin/").status_code == 200


def test_createadmin_twice_gives_a_fresh_link_and_raises_somebody_who_was_here_once(member: User) -> None:
    for _ in range(2):
        call_command("createadmin", member.email, stdout=StringIO())
    member.refresh_from_db()
    assert member.is_superuser
    assert EmailAddress.objects.filter(email=member.email).count() == 1
    assert AuditEvent.objects.filter(verb="made admin").count() == 1


@pytest.mark.django_db
def test_createadmin_refuses_what_is_no_address() -> None:
    with pytest.raises(CommandError, match="no @"):
        call_command("createadmin", "root", stdout=StringIO())
    assert not User.objects.exists()


def test_a_link_leads_to_the_port_on_which_the_site_runs(
    member: User, settings: LazySettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sign_in_link, "RUNNING", tmp_path / "running")
    settings.MAILBOX = True
    assert make_link(member).startswith(f"{settings.SITE_URL}/")
    (tmp_path / "running").write_text("http://127.0.0.1:9123\n")
    assert make_link(member).startswith("http://127.0.0.1:9123/")
    settings.MAILBOX = False
    assert make_link(member).startswith(f"{settings.SITE_URL}/"), "a real site is where its setting says"
