"""Redeem here, as a person, a scanner and a stranger meet it."""

import re
from collections.abc import Callable
from datetime import datetime

import pytest
from allauth.account.models import EmailAddress
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import Letter, User
from distribution import services
from distribution.models import Grant, Release
from distribution.tickets import issue_ticket
from groups.models import Contact
from library.models import Bundle, File, Holding, LibraryEntry
from tests import factories
from tests.distribution.conftest import Give

pytestmark = pytest.mark.django_db
ClientOf = Callable[[User | None], Client]
WRITES = re.compile(r"\s*(INSERT|UPDATE|DELETE|TRUNCATE)|FOR (NO KEY )?UPDATE", re.IGNORECASE)
MASKED = "a•••@e•••.org"


@pytest.fixture(autouse=True)
def fresh_limits() -> None:
    cache.clear()


@pytest.fixture
def link(ticket: str) -> str:
    return reverse("redeem", args=[ticket])


@pytest.fixture
def ana_user(ana: Contact, grant: Grant) -> User:
    user: User = factories.UserFactory.create(email=ana.address_key, name="Ana")
    return user


def words(response: HttpResponse) -> str:
    main = response.content.decode().partition('<main id="content"')[2].partition("</main>")[0]
    return " ".join(re.sub(r"<[^>]+>", " ", main).split())


def is_public_and_quiet(response: HttpResponse) -> bool:
    return (
        "no-store" in response["Cache-Control"]
        and "private" in response["Cache-Control"]
        and response["Referrer-Policy"] == "strict-origin"
        and response["X-Robots-Tag"] == "noindex, nofollow"
    )


def code() -> str:
    return Letter.objects.latest("pk").code


def enter_code(client: Client, given: str) -> HttpResponse:
    return client.post(reverse("account_confirm_login_code"), {"code": given})


# --- reading ------------------------------------------------------------------------------------------


def test_the_page_says_what_is_inside_for_whom_and_by_which_rule(
    client: Client, release: Release, link: str
) -> None:
    bundle = release.items.get().bundle
    manual = factories.add_file(bundle.versions.get(), "manual.pdf", b"x" * 2048)
    File.objects.filter(pk=manual.pk).update(kind="pdf")
    shown = client.get(link)
    assert shown.status_code == 200
    text = words(shown)
    for part in (
        "From Ana's Forge",
        "October",
        "Dragon",
        f"Sent to {MASKED}",
        "2 files, 2.0 KB · 1 × PDF, 1 × STL",
    ):
        assert part in text.replace("&#x27;", "'")
    assert "For those who were members of Patrons on 21 Nov 2026" in text
    assert "Redeem here" in text
    assert f"We send a code to {MASKED}" in text
    assert "ana@example.org" not in shown.content.decode()
    assert is_public_and_quiet(shown)


def test_a_release_for_late_joiners_says_so(
    client: Client, release: Release, give: Give, ana: Contact
) -> None:
    services.choose_audience(release, [row.group for row in release.audience_rows.all()], "late_joiners")
    give()
    grant = Grant.objects.get()
    text = words(client.get(reverse("redeem", args=[issue_ticket(grant.pk, 1)])))
    assert "For the members of Patrons, and for whoever joins later." in text


def test_reading_it_writes_nothing_whoever_reads(
    client_of: ClientOf, link: str, ana_user: User, stranger: User, grant: Grant
) -> None:
    for reader in (None, ana_user, stranger):
        client = client_of(reader)
        sessions = Session.objects.count()
        for read in (client.get, client.head):
            with CaptureQueriesContext(connection) as queries:
                assert read(link).status_code == 200
            assert [query["sql"] for query in queries if WRITES.search(query["sql"])] == []
        assert Session.objects.count() == sessions
        assert "sessionid" not in client.cookies or reader
    grant.refresh_from_db()
    assert grant.redeemed_at is None


def test_a_press_needs_the_page_it_comes_from(link: str) -> None:
    assert Client(enforce_csrf_checks=True).post(link).status_code == 403


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_other_methods_are_refused(client: Client, link: str, method: str) -> None:
    assert getattr(client, method)(link).status_code == 405


@pytest.mark.parametrize(
    "change", [lambda t: t[:-1], lambda t: t[:-1] + "!", lambda t: "A" * 36, lambda t: t + "x"]
)
def test_a_forged_ticket_is_a_page_that_says_what_to_do(
    client: Client, ticket: str, change: Callable[[str], str]
) -> None:
    for ask in (client.get, client.post):
        shown = ask(reverse("redeem", args=[change(ticket)]))
        assert shown.status_code == 404
        assert "Open the mail again" in words(shown)
        assert is_public_and_quiet(shown)
    assert not User.objects.filter(email="ana@example.org").exists()


def test_a_ticket_of_a_grant_that_is_gone_or_renewed_opens_nothing(client: Client, grant: Grant) -> None:
    for ticket in (issue_ticket(grant.pk + 1, 1), issue_ticket(grant.pk, 2), issue_ticket(2**63, 1)):
        assert client.get(reverse("redeem", args=[ticket])).status_code == 404


def test_the_page_costs_the_same_with_one_bundle_and_with_three(
    client: Client, release: Release, link: str, grant: Grant
) -> None:
    with CaptureQueriesContext(connection) as at_one:
        client.get(link)
    for bundle in factories.BundleFactory.create_batch(2, creator=release.creator):
        release.items.create(bundle=bundle, version=bundle.versions.get())
    with CaptureQueriesContext(connection) as at_three:
        assert "3 STL" not in words(client.get(link))
    assert len(at_one) == len(at_three)


def test_the_cover_is_shown_to_who_has_the_ticket_and_to_nobody_else(
    client: Client, ticket: str, release: Release
) -> None:
    bundle = release.items.get().bundle
    cover = reverse("redeem-cover", args=[ticket, bundle.pk])
    assert client.get(cover).status_code == 404
    Bundle.objects.filter(pk=bundle.pk).update(
        cover=default_storage.save("covers/c.webp", ContentFile(b"RIFF"))
    )
    shown = client.get(cover)
    assert (shown.status_code, shown["Content-Type"]) == (200, "image/webp")
    assert shown.content == b"RIFF"
    assert is_public_and_quiet(shown)
    assert cover in client.get(reverse("redeem", args=[ticket])).content.decode()
    other = factories.BundleFactory.create(creator=release.creator, cover="covers/c.webp")
    assert client.get(reverse("redeem-cover", args=[ticket, other.pk])).status_code == 404
    assert client.get(reverse("redeem-cover", args=["forged", bundle.pk])).status_code == 404


def test_the_cover_of_a_bundle_in_no_release_is_shown_to_no_forged_and_no_ended_ticket(
    client: Client, ticket: str, release: Release
) -> None:
    unreleased = factories.BundleFactory.create(
        cover=default_storage.save("covers/c.webp", ContentFile(b"RIFF"))
    )
    garbage = reverse("redeem-cover", args=["garbage", unreleased.pk])
    assert client.get(garbage).status_code == 404
    Grant.objects.update(revoked_at=release.created_at)
    assert client.get(reverse("redeem-cover", args=[ticket, unreleased.pk])).status_code == 404


# --- signed in with the mailed address -------------------------------------------------------------


def test_a_press_redeems_and_leads_to_the_library(
    client_of: ClientOf, link: str, ticket: str, ana_user: User, grant: Grant
) -> None:
    client = client_of(ana_user)
    assert "Redeem here" in words(client.get(link))
    done = client.post(link)
    assert (done.status_code, done.url) == (302, reverse("redeemed", args=[ticket]))  # type: ignore[attr-defined]
    moment = client.get(done.url)  # type: ignore[attr-defined]
    assert "It is yours" in words(moment)
    entry = LibraryEntry.objects.get(user=ana_user)
    assert f'href="/library/{entry.pk}/"' in moment.content.decode()
    assert is_public_and_quiet(moment)
    assert Holding.objects.get().entry.user == ana_user


def test_several_bundles_are_found_on_the_shelf(
    client_of: ClientOf, link: str, ticket: str, ana_user: User, release: Release
) -> None:
    bundle = factories.BundleFactory.create(creator=release.creator)
    release.items.create(bundle=bundle, version=bundle.versions.get())
    client = client_of(ana_user)
    client.post(link)
    assert 'large" href="/library/"' in client.get(reverse("redeemed", args=[ticket])).content.decode()


def test_pressing_twice_is_harmless_and_the_page_says_it_is_there(
    client_of: ClientOf, link: str, ana_user: User, grant: Grant
) -> None:
    client = client_of(ana_user)
    client.post(link)
    grant.refresh_from_db()
    first = grant.redeemed_at
    assert client.post(link).status_code == 302
    grant.refresh_from_db()
    assert grant.redeemed_at == first
    shown = client.get(link)
    assert "This is in your library already" in words(shown)
    assert "Redeem here" not in words(shown)
    assert Holding.objects.count() == 1


def test_who_held_it_from_the_start_is_led_to_the_library(
    client_of: ClientOf, give: Give, contact: Contact, member: User
) -> None:
    give()
    link = reverse("redeem", args=[issue_ticket(Grant.objects.get().pk, 1)])
    assert "This is in your library already" in words(client_of(member).get(link))


def test_the_moment_after_is_only_for_who_holds_it(
    client_of: ClientOf, ticket: str, link: str, ana_user: User, stranger: User
) -> None:
    done = reverse("redeemed", args=[ticket])
    for reader in (None, stranger, ana_user):
        response = client_of(reader).get(done)
        assert (response.status_code, response["Location"]) == (302, link)
    assert client_of(ana_user).get(reverse("redeemed", args=["forged"])).status_code == 302


# --- signed in as somebody else ---------------------------------------------------------------------


def test_somebody_else_sees_both_addresses_masked_and_redeems_nothing(
    client_of: ClientOf, link: str, stranger: User, grant: Grant
) -> None:
    client = client_of(stranger)
    for response, status in ((client.get(link), 200), (client.post(link), 409)):
        assert response.status_code == status
        text = words(response)
        assert f"This was sent to {MASKED}. You are signed in as s•••@e•••.example." in text
        assert "Sign in with the mailed address" in text
        assert "Redeem here" not in text
    grant.refresh_from_db()
    assert grant.redeemed_at is None
    assert client.get("/accounts/email/").status_code == 200, "still signed in"


def test_somebody_else_can_switch_to_the_mailed_address(
    client_of: ClientOf, link: str, ticket: str, stranger: User, ana_user: User, grant: Grant
) -> None:
    client = client_of(stranger)
    sent = client.post(link, {"with_mailed_address": "1"})
    assert (sent.status_code, sent["Location"]) == (302, reverse("account_confirm_login_code"))
    done = enter_code(client, code())
    assert done["Location"] == reverse("redeemed", args=[ticket])
    grant.refresh_from_db()
    assert grant.redeemed_by == ana_user


# --- not signed in ----------------------------------------------------------------------------------


def test_a_newcomer_gets_an_account_by_the_code_and_finds_it_redeemed(
    client: Client, link: str, ticket: str, grant: Grant
) -> None:
    sent = client.post(link)
    assert (sent.status_code, sent["Location"]) == (302, reverse("account_confirm_login_code"))
    letter = Letter.objects.get()
    assert letter.address_key == "ana@example.org"
    user = User.objects.get(email="ana@example.org")
    assert not user.has_usable_password()
    assert not EmailAddress.objects.get(user=user).verified
    asked = client.get(sent["Location"])
    assert MASKED in words(asked)
    assert "ana@example.org" not in asked.content.decode()
    done = enter_code(client, letter.code)
    assert done["Location"] == reverse("redeemed", args=[ticket])
    assert "It is yours" in words(client.get(done["Location"]))
    assert EmailAddress.objects.get(user=user).verified
    grant.refresh_from_db()
    assert grant.redeemed_by == user
    assert grant.contact.account == user


def test_a_member_signs_in_by_the_code_and_finds_it_redeemed(
    client: Client, link: str, ana_user: User, grant: Grant
) -> None:
    client.post(link)
    enter_code(client, code())
    grant.refresh_from_db()
    assert grant.redeemed_by == ana_user
    assert User.objects.filter(email=ana_user.email).count() == 1


def test_a_wrong_code_redeems_nothing_and_the_right_one_still_does(
    client: Client, link: str, ticket: str, grant: Grant
) -> None:
    client.post(link)
    assert enter_code(client, "000000").status_code == 200
    grant.refresh_from_db()
    assert grant.redeemed_at is None
    assert MASKED in words(client.get(reverse("account_confirm_login_code")))
    assert enter_code(client, code())["Location"] == reverse("redeemed", args=[ticket])


def cancel(client: Client) -> None:
    client.post(reverse("account_logout"), {"next": reverse("account_login")})


def test_the_ticket_survives_cancelling_and_signing_in_by_hand(
    client: Client, link: str, ticket: str, grant: Grant
) -> None:
    client.post(link)
    cancel(client)
    client.post(reverse("account_request_login_code"), {"email": "ana@example.org"})
    assert enter_code(client, code())["Location"] == reverse("redeemed", args=[ticket])
    grant.refresh_from_db()
    assert grant.redeemed_by == User.objects.get(email="ana@example.org")


def test_the_ticket_survives_signing_up_and_the_page_says_how_things_stand(
    client: Client, link: str, ticket: str
) -> None:
    client.post(link)
    cancel(client)
    client.post(reverse("account_signup"), {"email": "annie@example.org"})
    assert "annie@example.org" in words(client.get(reverse("account_email_verification_sent")))
    done = client.post(reverse("account_email_verification_sent"), {"code": code()})
    assert done["Location"] == reverse("redeemed", args=[ticket])
    assert "You are signed in as a•••@e•••.org" in words(client.get(done["Location"], follow=True))


def test_the_code_is_for_the_mailed_address_even_if_somebody_merely_claims_it(
    client: Client, link: str, stranger: User, grant: Grant
) -> None:
    EmailAddress.objects.create(user=stranger, email="ana@example.org", verified=False)
    client.post(link)
    enter_code(client, code())
    grant.refresh_from_db()
    assert grant.redeemed_by == User.objects.get(email="ana@example.org")
    assert grant.redeemed_by != stranger


def test_codes_to_one_address_are_limited(client: Client, link: str) -> None:
    statuses = [client.post(link).status_code for _again in range(5)]
    assert statuses == [302, 302, 302, 429, 429]
    assert Letter.objects.count() == 3


def test_what_the_mailed_address_holds_already_opens_by_a_code(
    client: Client, link: str, ana_user: User, ticket: str, grant: Grant, now: datetime
) -> None:
    services.redeem_grant(grant, user=ana_user, now=now)
    assert "This is in your library already Sign in, and it opens." in words(client.get(link))
    client.post(link)
    assert enter_code(client, code())["Location"] == reverse("redeemed", args=[ticket])


def test_what_another_account_holds_says_so_and_where_to_write(
    client_of: ClientOf, link: str, stranger: User, member: User, grant: Grant, now: datetime
) -> None:
    Contact.objects.filter(pk=grant.contact_id).update(account=member)
    services.redeem_grant(grant, user=member, now=now)
    for reader in (None, stranger):
        client = client_of(reader)
        for response, status in ((client.get(link), 200), (client.post(link), 409)):
            assert response.status_code == status
            text = words(response)
            assert "Somebody else has redeemed this" in text
            assert "hello@anas-forge.example" in text
        assert ("It was me: sign in" in words(client.get(link))) == (reader is None)
    assert not Letter.objects.exists()
    assert client_of(stranger).post(link, {"with_mailed_address": "1"}).status_code == 409


# --- without any link -------------------------------------------------------------------------------


def test_signing_in_with_the_mailed_address_finds_everything_without_the_link(
    client: Client, grant: Grant
) -> None:
    client.post(reverse("account_signup"), {"email": "Ana@Example.ORG"})
    done = client.post(reverse("account_email_verification_sent"), {"code": code()})
    assert done["Location"] == "/library/"
    grant.refresh_from_db()
    assert grant.redeemed_by == User.objects.get(email="ana@example.org")


def test_verifying_a_second_address_finds_what_waited_for_it(
    client_of: ClientOf, member: User, grant: Grant
) -> None:
    client = client_of(None)
    client.post(reverse("account_request_login_code"), {"email": member.email})
    enter_code(client, code())
    client.post(reverse("account_email"), {"action_add": "", "email": "ana@example.org"})
    added = Letter.objects.get(address_key="ana@example.org")
    client.post(reverse("account_email_verification_sent"), {"code": added.code})
    assert EmailAddress.objects.get(email="ana@example.org").verified
    grant.refresh_from_db()
    assert grant.redeemed_by == member
