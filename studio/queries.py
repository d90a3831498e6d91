"""What the studio's pages read across rooms. Nothing here changes a row."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import BigIntegerField, Count, Exists, F, OuterRef, Q, QuerySet, Sum
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast, Coalesce

from distribution.audience import audience
from distribution.models import Grant, Release, ReleaseItem
from groups.imports.mapping import Mapping
from groups.imports.people import Survey
from groups.imports.reading import BadRow, Layout, Row
from groups.models import Contact, Creator, Group, Import, ImportRow, Membership
from groups.services import gone_memberships, preview_rows, summarise, who_gains_what
from groups.services.imports import Summary
from library.models import Bundle, BundleVersion, Download, File, Holding, LibraryEntry, Upload
from messaging import throttle
from messaging.mail import Mail
from messaging.models import Chunk, Delivery, Message
from messaging.services import Progress, deliveries_in, preview
from messaging.services.plan import with_outcome
from messaging.throttle import Meter
from messaging.words import WordsRefused

# More would make the page of steps heavy; what is chosen is always among them.
MOST_CHOICES = 100
MOST_READERS = 25


@dataclass
class GroupCard:
    """A group with the number of its people; a main group counts everyone in its tree, each person once."""

    group: Group
    people: int
    meter: Meter
    sub_groups: list["GroupCard"] = field(default_factory=list)


def group_cards(creator: Creator, *, now: datetime) -> list[GroupCard]:
    """The live main groups with their live sub groups, sizes and meters: five queries, however many there are."""
    live = Membership.objects.live(now).filter(group__creator=creator, group__archived_at=None)
    sizes = dict(live.values_list("group").annotate(Count("contact", distinct=True)))
    trees = dict(
        live.annotate(root=Coalesce("group__parent_id", "group_id"))
        .values_list("root")
        .annotate(Count("contact", distinct=True))
    )
    # Main groups first, so that each sub group finds its parent's card.
    groups = list(creator.groups.live().order_by(F("parent_id").asc(nulls_first=True), "name", "id"))
    meters = throttle.meters(groups, now=now)
    cards: dict[int, GroupCard] = {}
    for group in groups:
        if group.parent_id is None:
            cards[group.pk] = GroupCard(group, trees.get(group.pk, 0), meters[group.pk])
        elif parent := cards.get(group.parent_id):
            group.parent = parent.group
            parent.sub_groups.append(GroupCard(group, sizes.get(group.pk, 0), meters[group.pk]))
    return list(cards.values())


def members(
    group: Group, *, q: str = "", sub_group: int | None = None, ended: bool = False, now: datetime
) -> QuerySet[Membership]:
    """The memberships a group's page lists, newest first: of its whole tree, or of one sub group in it."""
    found = Membership.objects.filter(Q(group=group) | Q(group__parent=group))
    found = found.filter(ended_at__lte=now) if ended else found.live(now)
    if sub_group is not None:
        found = found.filter(group_id=sub_group)
    if q:
        found = found.filter(Q(contact__name__icontains=q) | Q(contact__address_key__icontains=q))
    return found.select_related("contact", "group").order_by("-id")


def people_in(group: Group, *, now: datetime) -> int:
    """How many people belong to `group` or its sub groups at `now`, each counted once."""
    live = Membership.objects.live(now).filter(Q(group=group) | Q(group__parent=group))
    return live.values("contact").distinct().count()


@dataclass(frozen=True)
class Joining:
    """What people gain by joining a group: at once, from releases that also go to late joiners, and from then on."""

    group: Group
    people: int
    bundles: int
    hears_from: list[Group]
    leaving: list[Group] = field(default_factory=list)
    there_already: bool = False


def joining(group: Group, address: str, *, now: datetime) -> Joining:
    """What whoever has this address gains by joining `group`; what they were given before does not count as gain."""
    contacts = Contact.objects.filter(creator=group.creator_id, address_key=address)
    belonging = who_gains_what(group, contacts, now=now)
    return Joining(
        group=group,
        people=1,
        bundles=late_bundles(belonging.hears_from, contacts),
        hears_from=belonging.hears_from,
        leaving=list(belonging.leaving),
        there_already=bool(belonging.there_already),
    )


def late_bundles(groups: list[Group], contacts: QuerySet[Contact] | None = None) -> int:
    """How many bundles whoever starts to hear from `groups` is given at once, and `contacts` do not have yet."""
    given = Release.objects.filter(
        rule=Release.Rule.LATE_JOINERS,
        state__in=[Release.State.GRANTING, Release.State.PUBLISHED],
        audience_rows__group__in=groups,
    )
    items = ReleaseItem.objects.filter(release__in=given.values("pk"))
    if contacts is not None:
        had = Grant.objects.filter(contact__in=contacts).values("release")
        items = items.exclude(bundle__in=ReleaseItem.objects.filter(release__in=had).values("bundle"))
    return items.values("bundle").distinct().count()


def given_bundles(contact: Contact) -> int:
    """How many bundles a contact was given: what leaving a group does not take away."""
    released = Grant.objects.filter(contact=contact).values("release")
    return ReleaseItem.objects.filter(release__in=released).values("bundle").distinct().count()


@dataclass(frozen=True)
class Begun:
    """How far a creator has come: the first-run checklist."""

    groups: bool
    members: bool
    bundles: bool
    releases: bool

    @property
    def complete(self) -> bool:
        return self.groups and self.members and self.bundles and self.releases


def begun(creator: Creator) -> Begun:
    """Which of the first steps are done, in one query."""
    files = File.objects.filter(version__bundle__creator=OuterRef("pk"))
    found = (
        Creator.objects.filter(pk=creator.pk)
        .values_list(
            Exists(Group.objects.filter(creator=OuterRef("pk"))),
            Exists(Membership.objects.filter(group__creator=OuterRef("pk"))),
            Exists(files),
            Exists(Release.objects.filter(creator=OuterRef("pk")).exclude(state=Release.State.DRAFT)),
        )
        .get()
    )
    return Begun(*found)


def memberships_of(creator: Creator) -> QuerySet[Membership]:
    """Every membership, ended or not, in a group that is not archived."""
    found = Membership.objects.filter(group__creator=creator, group__archived_at=None)
    return found.select_related("group", "group__parent", "contact")


@dataclass(frozen=True)
class Rows:
    """Long work in numbers; without `total` nobody knows how long it is."""

    done: int
    total: int | None


def import_progress(run: Import) -> Rows:
    """How far the dry run or the applying has come, in rows."""
    survey = Survey.from_json(run.survey)
    total = summarise(run).rows if run.state == Import.State.APPLYING else survey.rows
    if run.state == Import.State.CHECKING and not survey.whole:
        return Rows(run.cursor, None)
    # The cursor is a line of the file; its heading and rows of several lines make it run a little ahead.
    return Rows(min(run.cursor, total), total)


@dataclass(frozen=True)
class Preview:
    """The first rows of a file, as far as its columns are used."""

    headings: list[str]
    rows: list[list[str]]
    problems: list[BadRow]
    unread: int


def import_preview(run: Import) -> Preview:
    """Five rows as they are read with the columns chosen so far."""
    layout = Layout.from_json(run.layout)
    headings = list(Mapping.from_json(run.mapping).columns.values())
    places = [layout.columns.index(heading) for heading in headings]
    read = preview_rows(run)
    return Preview(
        headings=headings,
        rows=[[row.cells[place] for place in places] for row in read if isinstance(row, Row)],
        problems=[row for row in read if isinstance(row, BadRow)],
        unread=len(layout.columns) - len(headings),
    )


GONE = "gone"
# What needs a look comes before what stays as it is.
PARTS = [
    ImportRow.Verdict.NEW,
    ImportRow.Verdict.CHANGED,
    ImportRow.Verdict.MOVED,
    ImportRow.Verdict.RETURNED,
    GONE,
    ImportRow.Verdict.UNMAPPED,
    ImportRow.Verdict.BAD,
    ImportRow.Verdict.DUPLICATE,
    ImportRow.Verdict.SKIPPED,
    ImportRow.Verdict.UNCHANGED,
]


def import_parts(summary: Summary) -> dict[str, int]:
    """The parts of a dry run that hold anybody, in the order they are looked at."""
    sizes = {**summary.verdicts, GONE: summary.gone}
    return {str(part): sizes[part] for part in PARTS if sizes[part]}


def import_rows(run: Import, part: str) -> QuerySet[ImportRow] | QuerySet[Membership]:
    """The rows of one part, in the file's order; of the gone their memberships, as they stand in no row."""
    if part == GONE:
        return gone_memberships(run).select_related("contact", "group").order_by("contact__name", "id")
    rows = ImportRow.objects.filter(import_run=run, verdict=part)
    return rows.select_related("target", "contact").order_by("line")


def import_gains(run: Import, summary: Summary) -> list[Joining]:
    """For each group that people join by this import: how many, and what each of them gains."""
    found = []
    for group in Group.objects.filter(pk__in=summary.joining).select_related("parent"):
        hears_from = list(Group.objects.reaching([group]).select_related("parent"))
        found.append(Joining(group, summary.joining[group.pk], late_bundles(hears_from), hears_from))
    return found


@dataclass(frozen=True)
class BundleCard:
    """A bundle with what is in its newest version and how many people hold it."""

    bundle: Bundle
    files: int
    size: int
    holders: int


def bundle_cards(bundles: Iterable[Bundle]) -> list[BundleCard]:
    """Two queries, however many bundles."""
    bundles = list(bundles)
    newer = BundleVersion.objects.filter(bundle=OuterRef("bundle"), number__gt=OuterRef("number"))
    newest = BundleVersion.objects.filter(~Exists(newer), bundle__in=bundles).values("bundle")
    sizes = {
        row["bundle"]: (row["files__count"], row["files__blob__size__sum"] or 0)
        for row in newest.annotate(Count("files"), Sum("files__blob__size"))
    }
    entries = LibraryEntry.objects.filter(bundle__in=bundles).live()
    holders = dict(entries.values_list("bundle").annotate(Count("pk")))
    return [
        BundleCard(bundle, *sizes.get(bundle.pk, (0, 0)), holders.get(bundle.pk, 0)) for bundle in bundles
    ]


def files_of(version: BundleVersion | None) -> QuerySet[File]:
    """The files of a version by name; of no version, none."""
    return File.objects.filter(version=version).select_related("blob") if version else File.objects.none()


def files_in(creator: Creator) -> QuerySet[File]:
    """Every file of a creator, in whatever version."""
    return File.objects.filter(version__bundle__creator=creator).select_related("version__bundle")


def unfinished_uploads(bundle: Bundle) -> QuerySet[Upload]:
    """What is on its way into a bundle, and what was refused lately and why."""
    waiting = [Upload.State.OPEN, Upload.State.VERIFYING, Upload.State.REFUSED]
    return bundle.uploads.filter(state__in=waiting).order_by("-id")[:50]


# --- releases ----------------------------------------------------------------------------------------


def bundle_choices(creator: Creator, chosen: set[str]) -> list[tuple[BundleCard, bool]]:
    """The bundles a release may hold, newest first, and whether each is chosen; those chosen are never left out."""
    bundles = creator.bundles.live().order_by("-created_at", "-id")
    newest = list(bundles.values_list("pk", flat=True)[:MOST_CHOICES])
    ticked = [number for number in chosen if number.isdecimal()]
    cards = bundle_cards(bundles.filter(pk__in=[*newest, *ticked]))
    return [(card, str(card.bundle.pk) in chosen) for card in cards]


def paces(release: Release, *, now: datetime) -> list[tuple[Group, Meter]]:
    """The meter of each group that a message to this release's audience charges."""
    named = Group.objects.filter(release_rows__release=release)
    charged = throttle.groups_charged(named, now=now)
    meters = throttle.meters(charged, now=now)
    return [(group, meters[group.pk]) for group in charged]


def readers(message: Message, *, now: datetime) -> QuerySet[Contact]:
    """Some of those who would get the mail, to look at it as one of them."""
    return audience(message.release, now).order_by("pk")[:MOST_READERS]


@dataclass(frozen=True)
class Sample:
    """A mail as one of its readers gets it; without a mail the reason why there is none."""

    mail: Mail | None
    problem: str
    reader: Contact | None


def sample(message: Message, reader: str, *, now: datetime) -> Sample:
    """The mail as the contact with this number gets it, if they are in the audience; otherwise as somebody made up."""
    contact = audience(message.release, now).filter(pk=reader).first() if reader.isdecimal() else None
    try:
        return Sample(preview(message, contact=contact, now=now), "", contact)
    except WordsRefused as refused:
        return Sample(None, str(refused), contact)


def people_in_part(message: Message, reason: str, *, now: datetime) -> QuerySet[Contact]:
    """Who is in one part of the check; the part of those who are mailed has no reason."""
    people = with_outcome(audience(message.release, now), message.release)
    return people.filter(reason=reason).order_by("name", "pk")


@dataclass(frozen=True)
class ReleaseRow:
    """A release in a list, with its numbers."""

    release: Release
    message: Message | None
    mailed: int
    redeemed: int


def release_rows(releases: Iterable[Release]) -> list[ReleaseRow]:
    """Three queries, however many releases."""
    releases = list(releases)
    messages = {message.release_id: message for message in Message.objects.filter(release__in=releases)}
    accepted = Sum(Cast(KeyTextTransform("accepted", "tally"), BigIntegerField()))
    tallies = Chunk.objects.filter(message__in=messages.values()).values_list("message").annotate(accepted)
    mailed = {pk: number or 0 for pk, number in tallies}
    redeemed = dict(
        Grant.objects.filter(release__in=releases, redeemed_at__isnull=False)
        .values_list("release")
        .annotate(Count("pk"))
    )
    return [
        ReleaseRow(
            release,
            message := messages.get(release.pk),
            mailed.get(message.pk, 0) if message else 0,
            redeemed.get(release.pk, 0),
        )
        for release in releases
    ]


@dataclass(frozen=True)
class Numbers:
    """What became of a release, in distinct people. `late` joined later: granted, not mailed."""

    entitled: int
    at_once: int
    mailed: int
    redeemed: int
    downloaded: int
    late: int


def numbers(release: Release, message: Message, progress: Progress) -> Numbers:
    """Three counts, whatever the size of the release."""
    return Numbers(
        entitled=release.granted,
        at_once=release.held,
        mailed=progress.counts.get(Delivery.State.ACCEPTED, 0),
        redeemed=Grant.objects.filter(release=release, redeemed_at__isnull=False).count(),
        downloaded=downloaders(release).count(),
        late=max(0, release.granted - message.planned) if message.planned_at else 0,
    )


def downloaders(release: Release) -> QuerySet[Download, int]:
    """The ids of the accounts that hold this release and took something of it."""
    held = Holding.objects.live().filter(
        entry__user=OuterRef("user"), version=OuterRef("version"), origin_key=release.origin_key
    )
    taken = Download.objects.filter(Exists(held), version__release_items__release=release)
    return taken.values_list("user", flat=True).distinct()


def recipients(release: Release, message: Message, *, state: str, q: str) -> QuerySet[Grant]:
    """The people of a release in one state, by the states of `words.STATES_OF_PEOPLE`."""
    found = Grant.objects.filter(release=release).select_related("contact")
    waiting = Q(redeemed_at=None, contact__account=None)
    match state:
        case "waiting":
            found = found.filter(waiting)
        case "library":
            found = found.exclude(waiting)
        case "redeemed":
            found = found.filter(redeemed_at__isnull=False)
        case "downloaded":
            found = found.filter(contact__account__in=downloaders(release))
        case "accepted" | "failed" | "unknown" | "suppressed" | "skipped":
            told = deliveries_in(message, Delivery.State(state)).order_by()
            found = found.filter(contact__in=told.values("contact"))
    if q:
        found = found.filter(Q(contact__name__icontains=q) | Q(contact__address_key__icontains=q))
    return found.order_by("contact")


def with_deliveries(message: Message, grants: Iterable[Grant]) -> list[tuple[Grant, Delivery | None]]:
    """Each grant with what became of its mail: one query for a page."""
    grants = list(grants)
    told = Delivery.objects.filter(message=message, contact__in=[grant.contact_id for grant in grants])
    by_contact = {delivery.contact_id: delivery for delivery in told}
    return [(grant, by_contact.get(grant.contact_id)) for grant in grants]
