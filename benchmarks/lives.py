"""Two creators who have done the same things, one with as many members as a benchmark wants: what their pages read.

Everything is in proportion to the members: some have left, some leave next month, a full release with its mails in
every state, smaller ones before it, one that is scheduled, one that is a draft.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from django.db import connection
from django.db.models import F

from accounts.models import User
from distribution.models import Release, ReleaseAudience, ReleaseItem
from groups.models import Creator, Group, Import
from library.models import Blob, Bundle, BundleVersion, File
from messaging.models import Cadence, Message, SendSlot

TIERS = ("Hobbyist", "Collector", "Merchant")
BUNDLES = 30
SMALL_RELEASES = 24
CHUNK = 1_000

# One statement each, of a creator `c`. Half knew their account when the full release was given, a fifth redeemed it.
PEOPLE = [
    "INSERT INTO accounts_user (email, password, name, is_superuser, is_active, is_staff, session_epoch, date_joined)"
    " SELECT 'member' || n || '@' || %(slug)s || '.example', '!', '', false, true, false, 0, %(past)s"
    " FROM generate_series(1, %(members)s) n WHERE n %% 10 IN (0, 2, 4, 6, 8, 1, 3)",
    'INSERT INTO account_emailaddress (email, verified, "primary", user_id) SELECT email, true, true, id'
    " FROM accounts_user WHERE email LIKE 'member%%@' || %(slug)s || '.example'",
    "INSERT INTO groups_contact (creator_id, address_key, name, account_id, created_at)"
    " SELECT %(creator)s, 'member' || n || '@' || %(slug)s || '.example',"
    " (ARRAY['Ana','Bo','Chidi','Dana','Elif','Farid','Gero'])[1 + n %% 7] || ' ' ||"
    " (ARRAY['Moreau','Okafor','Lindqvist','Sato','Weaver'])[1 + n %% 5] || ' ' || n, u.id, %(past)s"
    " FROM generate_series(1, %(members)s) n LEFT JOIN accounts_user u"
    " ON u.email = 'member' || n || '@' || %(slug)s || '.example' ORDER BY md5(n::text)",
    # A tenth has left, one in fifty leaves next month.
    "INSERT INTO groups_membership (group_id, contact_id, started_at, recorded_at, ended_at)"
    " SELECT (%(tiers)s::bigint[])[1 + id %% 3], id, %(past)s, %(past)s,"
    " CASE WHEN id %% 10 = 7 THEN %(lately)s::timestamptz - id %% 100000 * interval '1 second'"
    " WHEN id %% 50 = 1 THEN %(soon)s::timestamptz + id %% 100000 * interval '1 second' END"
    " FROM groups_contact c WHERE creator_id = %(creator)s",
]

GIVEN = [
    "INSERT INTO distribution_grant (release_id, contact_id, granted_at, redeemed_at, redeemed_by_id)"
    " SELECT %(release)s, c.id, %(given)s,"
    " CASE WHEN u.id %% 7 > 4 THEN %(given)s::timestamptz + c.id %% 500000 * interval '1 second' END,"
    " CASE WHEN u.id %% 7 > 4 THEN u.id END"
    " FROM groups_contact c LEFT JOIN accounts_user u ON u.id = c.account_id"
    " WHERE c.creator_id = %(creator)s AND c.id %% %(every)s = 0 ORDER BY c.id",
    "INSERT INTO library_libraryentry (user_id, bundle_id, added_at) SELECT c.account_id, %(bundle)s, %(given)s"
    " FROM distribution_grant g JOIN groups_contact c ON c.id = g.contact_id"
    " WHERE g.release_id = %(release)s AND c.account_id IS NOT NULL ON CONFLICT DO NOTHING",
    "INSERT INTO library_holding (entry_id, version_id, origin_key, title, group_name, given_at)"
    " SELECT e.id, %(version)s, 'release:' || %(release)s, %(title)s, 'Patrons', %(given)s"
    " FROM distribution_grant g JOIN groups_contact c ON c.id = g.contact_id"
    " JOIN library_libraryentry e ON e.user_id = c.account_id AND e.bundle_id = %(bundle)s"
    " WHERE g.release_id = %(release)s",
    # Every third of those who hold it took it.
    "INSERT INTO library_download (user_id, version_id, at)"
    " SELECT e.user_id, h.version_id, %(given)s::timestamptz + e.user_id %% 500000 * interval '1 second'"
    " FROM library_holding h JOIN library_libraryentry e ON e.id = h.entry_id"
    " WHERE h.origin_key = 'release:' || %(release)s AND e.user_id %% 3 = 0",
    "UPDATE distribution_release SET"
    " granted = (SELECT count(*) FROM distribution_grant WHERE release_id = %(release)s),"
    " held = (SELECT count(*) FROM distribution_grant g JOIN groups_contact c ON c.id = g.contact_id"
    " WHERE g.release_id = %(release)s AND c.account_id IS NOT NULL AND g.redeemed_at IS NULL)"
    " WHERE id = %(release)s",
]

TOLD = [
    "INSERT INTO messaging_delivery (message_id, grant_id, contact_id, address_key, state, reason, offered_at, attempts)"
    " SELECT %(message)s, g.id, c.id, c.address_key, CASE WHEN c.id %% 200 = 1 THEN 'bounced'"
    " WHEN c.id %% 200 = 2 THEN 'suppressed' WHEN c.id %% 200 = 3 THEN 'skipped' WHEN c.id %% 5000 = 4 THEN 'unknown'"
    " WHEN c.id %% 5 = 0 THEN 'accepted' ELSE 'delivered' END, '', %(given)s, 1"
    " FROM distribution_grant g JOIN groups_contact c ON c.id = g.contact_id WHERE g.release_id = %(release)s"
    " ORDER BY c.id",
    "INSERT INTO messaging_chunk (message_id, number, after, until, state, owner, tally, epoch)"
    " SELECT %(message)s, part, coalesce(lag(last) OVER (ORDER BY part), 0), last, 'done', '', '{}', 1 FROM"
    " (SELECT part, max(contact_id) AS last FROM (SELECT contact_id,"
    " (row_number() OVER (ORDER BY contact_id) - 1) / %(chunk)s AS part FROM messaging_delivery"
    " WHERE message_id = %(message)s) numbered GROUP BY part) parts",
    "UPDATE messaging_chunk SET tally = found.tally FROM (SELECT k.id, jsonb_object_agg(s.state, s.n) AS tally"
    " FROM messaging_chunk k CROSS JOIN LATERAL (SELECT state, count(*) AS n FROM messaging_delivery d"
    " WHERE d.message_id = k.message_id AND d.contact_id > k.after AND d.contact_id <= k.until GROUP BY state) s"
    " WHERE k.message_id = %(message)s GROUP BY k.id) found WHERE found.id = messaging_chunk.id",
    "UPDATE messaging_message SET planned ="
    " (SELECT count(*) FROM messaging_delivery WHERE message_id = %(message)s) WHERE id = %(message)s",
]


@dataclass
class Life:
    """A creator, and what is looked at of theirs."""

    creator: Creator
    group: Group
    tier: Group
    bundle: Bundle
    full: Release
    draft: Release
    scheduled: Release
    import_run: Import

    @property
    def members(self) -> int:
        return int(self.import_run.counts["members"])


def live(slug: str, *, members: int, now: datetime) -> Life:
    """A creator with `members` people and two years behind them."""
    past = now - timedelta(days=400)
    owner = User.objects.create(email=f"owner@{slug}.example", password="!")
    creator = Creator.objects.create(
        name=slug.title(),
        slug=slug,
        reply_to=owner.email,
        postal_address="1 Mill Lane",
        created_at=past,
        approved_at=past,
    )
    creator.staff.create(user=owner)
    group = Group.objects.create(creator=creator, name="Patrons", created_at=past)
    tiers = [
        Group.objects.create(creator=creator, parent=group, name=name, created_at=past) for name in TIERS
    ]
    for one in (group, *tiers):
        Cadence.objects.create(group=one, ceiling_week=2, ceiling_month=6, chosen_week=2, chosen_month=6)
    values = {
        "creator": creator.pk,
        "slug": slug,
        "members": members,
        "tiers": [tier.pk for tier in tiers],
        "past": past,
        "lately": now - timedelta(days=2),
        "soon": now + timedelta(days=2),
    }
    _run(PEOPLE, values)
    Group.objects.filter(creator=creator).update(roster_version=F("roster_version") + 1)
    bundles = [_bundle(creator, number, past) for number in range(BUNDLES)]
    for number in range(SMALL_RELEASES):
        # One in ten of the members, then few.
        every = 10 if number == 0 else max(10, members // 500)
        given = now - timedelta(days=200 - number)
        _release(group, bundles[number % BUNDLES], f"Small {number}", given=given, every=every, values=values)
    full = _release(
        group, bundles[0], "The whole forge", given=now - timedelta(days=20), every=1, values=values
    )
    return Life(
        creator=creator,
        group=group,
        tier=tiers[0],
        bundle=bundles[0],
        full=full,
        draft=_planned(group, bundles[1], "Next month", None, now),
        scheduled=_planned(group, bundles[2], "Tomorrow", now + timedelta(days=1), now),
        import_run=_import(group, owner, now, members),
    )


def find(slug: str) -> Life:
    """The life that `live` made in this database before."""
    creator = Creator.objects.get(slug=slug)
    named = {release.title: release for release in creator.releases.all()}
    group = creator.groups.get(parent=None)
    return Life(
        creator=creator,
        group=group,
        tier=creator.groups.get(name=TIERS[0]),
        bundle=creator.bundles.order_by("pk")[0],
        full=named["The whole forge"],
        draft=named["Next month"],
        scheduled=named["Tomorrow"],
        import_run=group.imports.get(),
    )


def _bundle(creator: Creator, number: int, at: datetime) -> Bundle:
    bundle = Bundle.objects.create(creator=creator, title=f"Bundle {number}", created_at=at)
    version = BundleVersion.objects.create(bundle=bundle, number=1, sealed_at=at)
    for name in range(3):
        key = f"{creator.pk:08}{number:08}{name:08}"
        blob = Blob.objects.create(
            creator=creator,
            sha256=key.rjust(64, "0"),
            crc32=0,
            size=1_000_000,
            storage_key=key,
            created_at=at,
        )
        File.objects.create(
            version=version, blob=blob, path=f"{name}.stl", path_key=f"{name}.stl", kind="stl", added_at=at
        )
    return bundle


def _release(
    group: Group, bundle: Bundle, title: str, *, given: datetime, every: int, values: dict[str, Any]
) -> Release:
    release = Release.objects.create(
        creator=group.creator,
        title=title,
        state=Release.State.PUBLISHED,
        publish_at=given,
        as_of=given,
        created_at=given,
    )
    version = bundle.versions.get()
    ReleaseItem.objects.create(release=release, bundle=bundle, version=version)
    ReleaseAudience.objects.create(release=release, group=group)
    message = Message.objects.create(
        release=release,
        subject=title,
        body="Hello {first_name|there}",
        state=Message.State.DONE,
        request_id=uuid4(),
        due_at=given,
        planned_at=given,
        started_at=given,
        done_at=given + timedelta(hours=1),
    )
    for charged in (group, *group.sub_groups.all()):
        SendSlot.objects.create(message=message, group=charged, at=given)
    numbers = {"release": release.pk, "bundle": bundle.pk, "version": version.pk, "message": message.pk}
    more = {"title": title, "given": given, "every": every, "chunk": CHUNK}
    _run([*GIVEN, *TOLD], {**values, **numbers, **more})
    release.refresh_from_db()
    return release


def _planned(group: Group, bundle: Bundle, title: str, at: datetime | None, now: datetime) -> Release:
    state = Release.State.CONFIRMED if at else Release.State.DRAFT
    release = Release.objects.create(
        creator=group.creator, title=title, state=state, publish_at=at, created_at=now
    )
    version = bundle.versions.get() if at else None
    ReleaseItem.objects.create(release=release, bundle=bundle, version=version)
    ReleaseAudience.objects.create(release=release, group=group)
    Message.objects.create(
        release=release,
        subject=title,
        body="Hello {first_name|there}",
        state=Message.State.CONFIRMED if at else Message.State.DRAFT,
        due_at=at,
        request_id=uuid4() if at else None,
    )
    return release


def _import(group: Group, owner: User, now: datetime, members: int) -> Import:
    run = Import.objects.create(
        group=group,
        by=owner,
        file_name="members.csv",
        stored_as="imports/none",
        format="plain-list",
        layout={},
        survey={},
        mapping={},
        counts={
            "verdicts": {"new": members // 9, "unchanged": members - members // 9},
            "members": members,
        },
        state=Import.State.DONE,
        as_of=now,
        created_at=now,
        done_at=now,
    )
    _run(
        [
            'INSERT INTO groups_importrow (import_run_id, line, verdict, flag, "column", reason, value, address_key,'
            " former_address, name, outside_id, tier, contact_id) SELECT %(run)s, row_number() OVER (ORDER BY id),"
            " CASE WHEN id %% 9 = 0 THEN 'new' ELSE 'unchanged' END, '', '', '', '', address_key, '', name, '', '', id"
            " FROM groups_contact WHERE creator_id = %(creator)s LIMIT %(members)s"
        ],
        {"run": run.pk, "creator": group.creator_id, "members": members},
    )
    return run


def _run(statements: list[str], values: dict[str, Any]) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement, values)
