"""The stage of a run of work: what is to be taken back, imported, uploaded and given. Prints the ids as JSON.

One creator. A crowd, all with accounts, holds one release for each round, to be recalled, and one that stays. For each
round a group of its own, brought by a list, with a release for late joiners.
"""

import json
import sys
from dataclasses import replace
from datetime import datetime, timedelta

from tests.chaos import stage

# Django is set up by the line above.
from django.core.files.base import ContentFile  # isort: skip
from django.core.management import call_command
from django.utils import timezone

from accounts.models import User
from distribution.models import Release
from distribution.services import (
    choose_audience,
    choose_bundles,
    confirm_release,
    fan_out_grants,
    start_release,
)
from groups.imports.formats import plain
from groups.imports.mapping import Mapping
from groups.models import Contact, Creator, Group, Import, Membership, Staff
from groups.services import apply_import, check_import, choose_mapping, open_import, request_apply
from library.models import Blob, Bundle, BundleVersion, File
from tests.chaos.lists import TIER, file_of, first_list


def main(libraries: int, members: int, rounds: int) -> None:
    call_command("migrate", verbosity=0)
    now = timezone.now()
    ago = now - timedelta(days=30)
    owner = User.objects.create_user("ana@forge.example")
    creator = Creator.objects.create(
        name="Ana's Forge",
        slug="anas-forge",
        reply_to="ana@forge.example",
        postal_address="1 Mill Lane",
        created_at=ago,
        approved_at=ago,
    )
    Staff.objects.create(creator=creator, user=owner)
    crowd = Group.objects.create(creator=creator, name="Crowd", created_at=ago)
    _fill(crowd, libraries, ago)
    blob = Blob.objects.create(
        creator=creator, sha256="0" * 64, size=9, storage_key="chaos", crc32=0, created_at=now
    )
    given = [_release(crowd, blob, f"Given {number}", owner, ago) for number in range(rounds + 1)]
    for release in given:
        assert fan_out_grants(release.pk, now=ago)
    groups = [_imported(creator, number, members, owner, ago) for number in range(rounds)]
    said = {
        "owner": owner.pk,
        "creator": creator.pk,
        "stays": given[0].pk,
        "to_recall": [release.pk for release in given[1:]],
        "groups": [group.pk for group in groups],
        # Drafts: each is confirmed in its round, for whoever belongs then and for late joiners.
        "for_joiners": [
            _release(group, blob, f"Welcome {number}", owner, ago, confirmed=False).pk
            for number, group in enumerate(groups)
        ],
        # Given to the crowd while it is recalled.
        "half_given": [
            _release(crowd, blob, f"Half {number}", owner, ago, confirmed=False).pk
            for number in range(rounds)
        ],
    }
    sys.stdout.write(json.dumps(said) + "\n")


def _fill(crowd: Group, libraries: int, ago: datetime) -> None:
    contacts = Contact.objects.bulk_create(
        [
            Contact(creator=crowd.creator, name=f"C {n}", address_key=f"c{n}@example.net", created_at=ago)
            for n in range(libraries)
        ],
        batch_size=5_000,
    )
    Membership.objects.bulk_create(
        [Membership(group=crowd, contact=contact, started_at=ago, recorded_at=ago) for contact in contacts],
        batch_size=5_000,
    )
    # The last few have none yet: they sign up in the run, while all of it is taken back.
    stage.open_accounts(contacts[: -max(1, libraries // 50)])


def _release(
    group: Group, blob: Blob, title: str, owner: User, ago: datetime, *, confirmed: bool = True
) -> Release:
    bundle = Bundle.objects.create(creator=group.creator, title=title, created_at=ago)
    version = BundleVersion.objects.create(bundle=bundle, number=1, sealed_at=ago)
    File.objects.create(version=version, blob=blob, path="a.stl", path_key="a.stl", kind="stl", added_at=ago)
    release = start_release(group.creator, now=ago)
    choose_bundles(release, [bundle])
    choose_audience(release, [group], Release.Rule.AT_PUBLISHING if confirmed else Release.Rule.LATE_JOINERS)
    if confirmed:
        confirm_release(release, publish_at=ago, by=owner, now=ago)
    return release


def _imported(creator: Creator, number: int, members: int, owner: User, ago: datetime) -> Group:
    group = Group.objects.create(creator=creator, name=f"Patrons {number}", created_at=ago)
    run = open_import(
        group, ContentFile(file_of(first_list(number, members)), name="first.csv"), by=owner, now=ago
    )
    choose_mapping(run, replace(Mapping.from_json(run.mapping), tiers={plain(TIER): group.pk}), now=ago)
    assert check_import(run.pk, now=ago)
    run.refresh_from_db()
    request_apply(run, consent=True, gone_at=None, by=owner, now=ago)
    assert apply_import(run.pk, now=ago)
    assert Import.objects.get(pk=run.pk).counts["verdicts"] == {"new": members}
    # Half of them have an account, which their grants find.
    stage.open_accounts(list(Contact.objects.filter(memberships__group=group))[::2])
    return group


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
