"""Columns that say *do not write*: those people become members who are given files and not mailed."""

from datetime import datetime, timedelta

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import User
from groups.imports.formats import Field
from groups.imports.mail import columns_about_mail, find_mail_column, wants_mail
from groups.imports.mapping import Mapping
from groups.models import Contact, Creator, Group, Import, ImportRow, Membership
from groups.services import choose_columns, summarise
from messaging.models import Preference
from messaging.services import preference_of, set_preference
from tests.groups.flow import applied, checked, opened

GHOST = """id,email,name,note,subscribed_to_emails,complimentary_plan,stripe_customer_id,created_at,deleted_at,labels,tiers
1,lena@example.org,Lena,,true,false,,2025-01-02T10:00:00.000Z,,,
2,omar@example.org,Omar,,false,false,,2025-01-02T10:00:00.000Z,,,
3,ines@example.org,Ines,,false,false,,2025-01-02T10:00:00.000Z,,,
"""
LISTMONK = """uuid,email,name,attributes,status,created_at,updated_at
1,lena@example.org,Lena,{},enabled,2025-01-02,2025-01-02
2,omar@example.org,Omar,{},blocklisted,2025-01-02,2025-01-02
3,ines@example.org,Ines,{},disabled,2025-01-02,2025-01-02
"""
MAILCHIMP = """Email Address,First Name,OPTIN_TIME,UNSUB_TIME,UNSUB_REASON,CLEAN_TIME
lena@example.org,Lena,2025-01-02 10:00:00,,,
omar@example.org,Omar,2025-01-02 10:00:00,2025-03-02 10:00:00,NORMAL,
ines@example.org,Ines,2025-01-02 10:00:00,,,2025-03-02 10:00:00
"""

opted_out = Contact.objects.filter(opted_out_at__isnull=False).order_by("address_key")


def names() -> list[str]:
    return [contact.address_key.partition("@")[0] for contact in opted_out.all()]


@pytest.mark.parametrize(
    ("heading", "cell", "wants"),
    [
        ("subscribed_to_emails", "true", True),
        ("subscribed_to_emails", "false", False),
        ("subscribed_to_emails", "", None),
        ("Accepts Email Marketing", "no", False),
        ("Accepts Marketing", "Yes", True),
        ("status", "enabled", True),
        ("Status", "Blocklisted", False),
        ("status", "unsubscribed", False),
        ("STATUS", "non-subscribed", False),
        ("status", "gold member", None),
        ("status", "no", None),
        ("UNSUB_TIME", "2025-03-02 10:00:00", False),
        ("UNSUB_TIME", "", None),
        ("unsubscribed_at", "null", None),
        ("email_disabled", "true", False),
        ("email_disabled", "false", None),
        ("Email Opt Out", "1", False),
        ("EMAIL_BLACKLISTED", "No", None),
        ("Name", "unsubscribed", None),
        ("Notes", "no", None),
    ],
)
def test_a_heading_and_a_word_together_say_who_wants_mail(
    heading: str, cell: str, wants: bool | None
) -> None:
    labels = ("Email", heading)
    columns = columns_about_mail(labels, {Field.MAIL: find_mail_column(labels)})
    assert wants_mail(["ana@example.org", cell], columns) is wants


def test_one_column_that_says_no_outweighs_the_others() -> None:
    labels = ("Email", "subscribed", "unsubscribed_at")
    columns = columns_about_mail(labels, {Field.MAIL: "subscribed"})
    assert wants_mail(["ana@example.org", "true", "2025-03-02"], columns) is False


@pytest.mark.django_db
@pytest.mark.parametrize("content", [GHOST, LISTMONK, MAILCHIMP])
def test_they_become_members_who_are_marked_and_a_second_time_changes_nothing(
    patrons: Group, owner: User, now: datetime, content: str
) -> None:
    run = checked(patrons, content.encode(), by=owner, now=now)
    assert summarise(run).opted_out == 2
    applied(run, by=owner, now=now)
    assert names() == ["ines", "omar"]
    assert Membership.objects.live(now + timedelta(seconds=1)).count() == 3
    again = checked(patrons, content.encode(), by=owner, now=now + timedelta(days=1))
    assert (summarise(again).changes, summarise(again).opted_out) == (0, 2)
    applied(again, by=owner, now=now + timedelta(days=1))
    assert {contact.opted_out_at for contact in opted_out.all()} == {now}


@pytest.mark.django_db
def test_a_member_who_opted_out_meanwhile_is_changed_and_one_who_came_back_is_marked_no_longer(
    patrons: Group, owner: User, now: datetime
) -> None:
    applied(checked(patrons, GHOST.encode(), by=owner, now=now), by=owner, now=now)
    turned = GHOST.replace("Lena,,true", "Lena,,false").replace("Omar,,false", "Omar,,true")
    run = checked(patrons, turned.encode(), by=owner, now=now)
    changed = ImportRow.objects.filter(import_run=run, verdict=ImportRow.Verdict.CHANGED)
    assert set(changed.values_list("name", flat=True)) == {"Lena", "Omar"}
    applied(run, by=owner, now=now)
    assert names() == ["ines", "lena"]
    # A list that does not say leaves it as it is.
    applied(
        checked(patrons, b"email,name\nines@example.org,\nlena@example.org,\n", by=owner, now=now),
        by=owner,
        now=now,
    )
    assert names() == ["ines", "lena"]


@pytest.mark.django_db
def test_what_people_chose_here_outranks_what_any_list_says(
    patrons: Group, owner: User, now: datetime
) -> None:
    applied(checked(patrons, GHOST.encode(), by=owner, now=now), by=owner, now=now)
    lena, omar = (Contact.objects.get(name=name) for name in ("Lena", "Omar"))
    assert preference_of(omar) == Preference.Choice.NOTHING
    set_preference(omar, Preference.Choice.EACH, now=now)
    set_preference(lena, Preference.Choice.NOTHING, now=now)
    later = now + timedelta(days=30)
    applied(checked(patrons, GHOST.encode(), by=owner, now=later), by=owner, now=later)
    assert preference_of(Contact.objects.get(name="Omar")) == Preference.Choice.EACH
    assert preference_of(Contact.objects.get(name="Lena")) == Preference.Choice.NOTHING
    assert preference_of(Contact.objects.get(name="Ines")) == Preference.Choice.NOTHING


@pytest.mark.django_db
def test_who_is_listed_twice_or_is_a_member_by_another_group_is_heeded_too(
    patrons: Group, creator: Creator, owner: User, now: datetime
) -> None:
    content = (
        "email,patron status,subscribed\n"
        "ana@example.org,Active,yes\nANA@example.org,Active,no\nold@example.org,Former,no\n"
    )
    other = Contact.objects.create(creator=creator, address_key="old@example.org", created_at=now)
    run = checked(patrons, content.encode(), by=owner, now=now, statuses=frozenset({"active"}))
    assert summarise(run).opted_out == 1
    applied(run, by=owner, now=now)
    assert names() == ["ana", "old"]
    assert not other.memberships.exists()


@pytest.mark.django_db
def test_a_column_of_another_name_may_be_chosen_and_a_recognised_one_left_out(
    patrons: Group, owner: User, now: datetime
) -> None:
    run = opened(patrons, b"email,Mag Post\nana@example.org,nein\nbea@example.org,ja\n", by=owner, now=now)
    choose_columns(run, {Field.ADDRESS: "email", Field.MAIL: "Mag Post"})
    columns = Mapping.from_json(run.mapping).columns
    assert columns[Field.MAIL] == "Mag Post"
    assert wants_mail(["", "nein"], columns_about_mail(("email", "Mag Post"), columns)) is False
    assert wants_mail(["", "ja"], columns_about_mail(("email", "Mag Post"), columns)) is True
    ghost = opened(patrons, GHOST.encode(), by=owner, now=now)
    assert Mapping.from_json(ghost.mapping).columns[Field.MAIL] == "subscribed_to_emails"
    choose_columns(ghost, {Field.ADDRESS: "email"})
    left_out = Mapping.from_json(ghost.mapping).columns
    assert columns_about_mail(tuple(GHOST.splitlines()[0].split(",")), left_out) == {}


@pytest.mark.django_db
def test_the_dry_run_says_so_in_words_and_number(
    client: Client, patrons: Group, owner: User, now: datetime
) -> None:
    client.force_login(owner)
    run: Import = checked(patrons, GHOST.encode(), by=owner, now=now)
    page = client.get(reverse("studio:import", args=[patrons.creator.slug, run.pk])).content.decode()
    assert "2 people of this list want no mail" in page
    assert page.count("wants no mail") == 2
    look = client.get(reverse("studio:choose_mapping", args=[patrons.creator.slug, run.pk])).content.decode()
    assert "subscribed_to_emails</th>" in look
