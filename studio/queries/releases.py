"""Releases: what they would come to, what came of them, and their people."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import BigIntegerField, Count, Exists, OuterRef, Q, QuerySet, Sum
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast

from distribution.audience import audience
from distribution.models import Grant, Release
from groups.models import Contact, Creator, Group
from library.models import Download, Holding
from messaging import throttle
from messaging.mail import Mail
from messaging.models import Chunk, Delivery, Message
from messaging.services import Progress, deliveries_in, preview
from messaging.services.dry_run import everyone
from messaging.throttle import Meter
from messaging.words import WordsRefused
from studio.queries.bundles import BundleCard, bundle_cards
from studio.queries.groups import tightest
from studio.scope import row_number

# More would make the page of steps heavy; what is chosen is always among them.
MOST_CHOICES = 100
MOST_READERS = 25
# What the mail system took, whatever was heard of it since.
MAILED = ("accepted", "delivered", "bounced", "complained")
# Names are looked through, not counted: the check has the number.
MOST_NAMED = 1_000


def bundle_choices(creator: Creator, chosen: set[str]) -> list[tuple[BundleCard, bool]]:
    """The bundles a release may hold, newest first, and whether each is chosen; those chosen are never left out."""
    bundles = creator.bundles.live().order_by("-created_at", "-id")
    newest = list(bundles.values_list("pk", flat=True)[:MOST_CHOICES])
    ticked = [row_number(number) for number in chosen]
    cards = bundle_cards(bundles.filter(pk__in=[*newest, *ticked]))
    return [(card, str(card.bundle.pk) in chosen) for card in cards]


@dataclass(frozen=True)
class Paces:
    """The meters that a message to a release's audience charges, and the one of them that leaves the least."""

    each: list[tuple[Group, Meter]]
    tightest: Meter | None


def paces(release: Release, *, now: datetime) -> Paces:
    """Four queries, however many groups."""
    named = Group.objects.filter(release_rows__release=release)
    charged = throttle.groups_charged(named, now=now)
    meters = throttle.meters(charged, now=now)
    return Paces([(group, meters[group.pk]) for group in charged], tightest(meters, meters))


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
    contact = audience(message.release, now).filter(pk=row_number(reader)).first() if reader else None
    try:
        return Sample(preview(message, contact=contact, now=now), "", contact)
    except WordsRefused as refused:
        return Sample(None, str(refused), contact)


def people_in_part(message: Message, reason: str, *, now: datetime) -> QuerySet[Contact]:
    """Some of those in one part of the check, to be listed by name; the part of those who are mailed has no reason."""
    people = everyone(message, now=now)
    return people.filter(reason=reason).order_by("pk")[:MOST_NAMED]


@dataclass(frozen=True)
class ReleaseRow:
    """A release in a list, with its numbers."""

    release: Release
    message: Message | None
    reminder: Message | None
    mailed: int
    redeemed: int


def release_rows(releases: Iterable[Release]) -> list[ReleaseRow]:
    """Four queries, however many releases."""
    releases = list(releases)
    messages = {message.release_id: message for message in Message.objects.announcing(releases)}
    sent_again = Message.objects.filter(release__in=releases, kind=Message.Kind.REMINDER)
    reminders = {message.release_id: message for message in sent_again}
    mailed = _mailed(messages.values())
    redeemed = dict(
        Grant.objects.filter(release__in=releases, redeemed_at__isnull=False)
        .values_list("release")
        .annotate(Count("pk"))
    )
    return [
        ReleaseRow(
            release,
            message := messages.get(release.pk),
            reminders.get(release.pk),
            mailed.get(message.pk, 0) if message else 0,
            redeemed.get(release.pk, 0),
        )
        for release in releases
    ]


def _mailed(messages: Iterable[Message]) -> dict[int, int]:
    """How many mails of each of `messages` the mail system took."""
    chunks = Chunk.objects.filter(message__in=list(messages)).values_list("message")
    sums = {
        f"all_{state}": Sum(Cast(KeyTextTransform(state, "tally"), BigIntegerField())) for state in MAILED
    }
    return {pk: sum(number or 0 for number in numbers) for pk, *numbers in chunks.annotate(**sums)}


@dataclass(frozen=True)
class Numbers:
    """What became of a release, in distinct people. `late` joined later: granted, not mailed."""

    entitled: int
    at_once: int
    mailed: int
    delivered: int
    redeemed: int
    downloaded: int
    late: int


def numbers(release: Release, message: Message, progress: Progress) -> Numbers:
    """Three counts, whatever the size of the release."""
    return Numbers(
        entitled=release.granted,
        at_once=release.held,
        mailed=sum(progress.counts.get(state, 0) for state in MAILED),
        delivered=progress.counts.get(Delivery.State.DELIVERED, 0),
        redeemed=Grant.objects.filter(release=release, redeemed_at__isnull=False).count(),
        downloaded=downloaders(release).count(),
        late=max(0, release.granted - message.planned) if message.planned_at else 0,
    )


def downloaders(release: Release) -> QuerySet[Download, int]:
    """The ids of the accounts that were given this release and took something of it, be it taken back since."""
    held = Holding.objects.filter(
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
        case "revoked":
            found = found.filter(revoked_at__isnull=False)
        case "accepted":
            told = deliveries_in(message, *MAILED).order_by()
            found = found.filter(contact__in=told.values("contact"))
        case state if state in Delivery.State:
            told = deliveries_in(message, state).order_by()
            found = found.filter(contact__in=told.values("contact"))
    if q:
        found = found.filter(Q(contact__name__icontains=q) | Q(contact__address_key__icontains=q))
    return found.order_by("contact")


def with_deliveries(message: Message, grants: Iterable[Grant]) -> list[tuple[Grant, Delivery | None]]:
    """Each grant with what became of its mail: one query for a page."""
    grants = list(grants)
    people = {grant.contact_id: grant.contact for grant in grants}
    by_contact = {}
    for delivery in Delivery.objects.filter(message=message, contact__in=list(people)):
        delivery.contact = people[delivery.contact_id]
        by_contact[delivery.contact_id] = delivery
    return [(grant, by_contact.get(grant.contact_id)) for grant in grants]
