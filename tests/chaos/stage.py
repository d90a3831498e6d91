"""The scene of a chaos run, set by the application itself: run as a process, it prints the ids as JSON.

A main group of as many members as asked for, half with accounts. Some addresses are suppressed, some people asked for
no mail, some hold everything already; the mail system treats some addresses as `ADDRESSES` says.
"""

import json
import os
import sys
from datetime import datetime, timedelta

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from allauth.account.models import EmailAddress  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.utils import timezone  # noqa: E402

from accounts.models import Suppression, User  # noqa: E402
from accounts.services import suppress  # noqa: E402
from distribution.services import choose_audience, choose_bundles, start_release  # noqa: E402
from groups.models import Contact, Creator, Group, Membership, Staff  # noqa: E402
from library.models import Blob, Bundle, BundleVersion, File  # noqa: E402
from library.services import add_holdings  # noqa: E402
from messaging.models import Message, Preference  # noqa: E402
from messaging.services import set_preference, start_message  # noqa: E402
from tests.chaos.addresses import address_of  # noqa: E402


def main(members: int, messages: int) -> None:
    call_command("migrate", verbosity=0)
    now = timezone.now()
    ago = now - timedelta(days=30)
    users = [User.objects.create_user(f"{name}@forge.example") for name in ("ana", "bea")]
    creator = Creator.objects.create(
        name="Ana's Forge",
        slug="anas-forge",
        reply_to="ana@forge.example",
        postal_address="1 Mill Lane",
        created_at=ago,
        approved_at=ago,
    )
    Staff.objects.bulk_create([Staff(creator=creator, user=user) for user in users])
    group = Group.objects.create(creator=creator, name="Patrons", created_at=ago)
    contacts = Contact.objects.bulk_create(
        [
            Contact(creator=creator, name=f"Member {n}", address_key=address_of(n, members), created_at=ago)
            for n in range(members)
        ],
        batch_size=5_000,
    )
    Membership.objects.bulk_create(
        [Membership(group=group, contact=contact, started_at=ago, recorded_at=ago) for contact in contacts],
        batch_size=5_000,
    )
    open_accounts(contacts[::2])
    bundle, version = _bundle(creator, ago)
    few = max(1, members // 200)
    for contact in contacts[:few]:
        suppress(contact.address_key, Suppression.Reason.BOUNCE, now=ago)
    for contact in contacts[few : 2 * few]:
        set_preference(contact, Preference.Choice.NOTHING, now=ago)
    holders = [contact.address_key for contact in contacts[2 * few : 4 * few : 2]]
    add_holdings(
        User.objects.filter(email__in=holders).values_list("pk", flat=True),
        versions=[version],
        origin_key="release:0",
        title="Before",
        group_name="Patrons",
        given_at=ago,
    )
    drafts = [_draft(creator, group, bundle, number, now) for number in range(messages)]
    said = {
        "messages": [draft.pk for draft in drafts],
        "releases": [draft.release_id for draft in drafts],
        "version": version.pk,
        "creator": creator.pk,
        "group": group.pk,
        "staff": [user.pk for user in users],
        "suppressed": few,
        "no_mail": few,
        "holding": len(holders),
    }
    sys.stdout.write(json.dumps(said) + "\n")


def open_accounts(contacts: list[Contact]) -> None:
    """Found by their verified addresses when the grants are given."""
    users = User.objects.bulk_create([User(email=contact.address_key) for contact in contacts], 5_000)
    EmailAddress.objects.bulk_create(
        [EmailAddress(user=user, email=user.email, verified=True, primary=True) for user in users], 5_000
    )


def _bundle(creator: Creator, ago: datetime) -> tuple[Bundle, BundleVersion]:
    bundle = Bundle.objects.create(creator=creator, title="Dragon bust", created_at=ago)
    version = BundleVersion.objects.create(bundle=bundle, number=1, sealed_at=ago)
    blob = Blob.objects.create(
        creator=creator, sha256="0" * 64, size=9, storage_key="chaos", crc32=0, created_at=ago
    )
    File.objects.create(version=version, blob=blob, path="a.stl", path_key="a.stl", kind="stl", added_at=ago)
    return bundle, version


def _draft(creator: Creator, group: Group, bundle: Bundle, number: int, now: datetime) -> Message:
    """A release and its message. Each further one gives a bundle of its own: nobody holds it already."""
    if number:
        bundle = Bundle.objects.create(creator=creator, title=f"Dragon {number}", created_at=now)
        version = BundleVersion.objects.create(bundle=bundle, number=1, sealed_at=now)
        blob = Blob.objects.get(creator=creator)
        File.objects.create(
            version=version, blob=blob, path="a.stl", path_key="a.stl", kind="stl", added_at=now
        )
    release = start_release(creator, now=now)
    choose_bundles(release, [bundle])
    choose_audience(release, [group], release.rule)
    message = start_message(release)
    message.subject, message.body = "The dragon is here", "Hi {first_name|friend}, the *dragon* is ready."
    message.save()
    return message


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
