"""The scene of a chaos run, set by the application itself: run as a process, it prints the message's id.

A main group of 20,000 members, half with accounts; some addresses are suppressed, some people asked for no mail,
some hold everything already.
"""

import os
import sys
from datetime import timedelta
from uuid import uuid4

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from allauth.account.models import EmailAddress  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.utils import timezone  # noqa: E402

from accounts.models import Suppression, User  # noqa: E402
from accounts.services import suppress  # noqa: E402
from distribution.services import choose_audience, choose_bundles, start_release  # noqa: E402
from groups.models import Contact, Creator, Group, Membership  # noqa: E402
from library.models import Blob, Bundle, BundleVersion, File  # noqa: E402
from library.services import add_holdings  # noqa: E402
from messaging.models import Preference  # noqa: E402
from messaging.services import confirm_message, set_preference, start_message  # noqa: E402


def main(members: int) -> None:
    call_command("migrate", verbosity=0)
    now = timezone.now()
    ago = now - timedelta(days=30)
    by = User.objects.create_user("ana@forge.example")
    creator = Creator.objects.create(
        name="Ana's Forge",
        slug="anas-forge",
        reply_to="ana@forge.example",
        postal_address="1 Mill Lane",
        created_at=ago,
        approved_at=ago,
    )
    group = Group.objects.create(creator=creator, name="Patrons", created_at=ago)
    contacts = Contact.objects.bulk_create(
        [
            Contact(creator=creator, name=f"Member {n}", address_key=f"m{n}@example.net", created_at=ago)
            for n in range(members)
        ],
        batch_size=5_000,
    )
    Membership.objects.bulk_create(
        [Membership(group=group, contact=contact, started_at=ago, recorded_at=ago) for contact in contacts],
        batch_size=5_000,
    )
    # Every second one has an account, found by its verified address when the grants are given.
    users = User.objects.bulk_create([User(email=contact.address_key) for contact in contacts[::2]], 5_000)
    EmailAddress.objects.bulk_create(
        [EmailAddress(user=user, email=user.email, verified=True, primary=True) for user in users], 5_000
    )
    bundle = Bundle.objects.create(creator=creator, title="Dragon bust", created_at=ago)
    version = BundleVersion.objects.create(bundle=bundle, number=1, sealed_at=ago)
    blob = Blob.objects.create(creator=creator, sha256="0" * 64, size=9, storage_key="chaos", created_at=ago)
    File.objects.create(version=version, blob=blob, path="a.stl", path_key="a.stl", kind="stl", added_at=ago)
    for contact in contacts[: members // 200]:
        suppress(contact.address_key, Suppression.Reason.BOUNCE, now=ago)
    for contact in contacts[1000 : 1000 + members // 200]:
        set_preference(contact, Preference.Choice.NOTHING, now=ago)
    holders = User.objects.filter(pk__in=[user.pk for user in users[2000 : 2000 + members // 200]])
    add_holdings(
        holders.values_list("pk", flat=True),
        versions=[version],
        origin_key="release:0",
        title="Before",
        group_name="Patrons",
        given_at=ago,
    )
    release = start_release(creator, now=now)
    choose_bundles(release, [bundle])
    choose_audience(release, [group], release.rule)
    message = start_message(release)
    message.subject, message.body = "The dragon is here", "Hi {first_name|friend}, the *dragon* is ready."
    message.save()
    confirm_message(message, request_id=uuid4(), due_at=now, by=by, now=now)
    sys.stdout.write(f"{message.pk}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
