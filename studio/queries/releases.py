"""Releases: what they would come to, what came of them, and their people."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from distribution.audience import audience, in_pieces, next_stop, reached_groups
from distribution.models import Grant, Release
from distribution.services import redeemed_of, turnout
from groups.models import Contact, Creator, Group
from messaging import throttle
from messaging.mail import Mail
from messaging.models import Delivery, Message
from messaging.services import Progress, preview, tallied
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
LOOKED_AT = 1_000


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


def readers(message: Message, *, now: datetime) -> list[Contact]:
    """Some of those who would get the mail, to look at it as one of them."""
    found: list[Contact] = []
    for piece in in_pieces(message.release, now):
        found += piece.order_by("pk")[: MOST_READERS - len(found)]
        if len(found) == MOST_READERS:
            break
    return found


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


@dataclass(frozen=True)
class Part:
    """Some of those in one part of a check; `after`: from which contact on to look further, None at the end."""

    people: list[Contact]
    after: int | None
    begins: bool


def people_in_part(message: Message, reason: str, *, after: int, size: int, now: datetime) -> Part:
    """The first `size` after a contact; the part of those who are mailed has no reason.

    Nobody knows where in an audience those of a rare part are. So at most `LOOKED_AT` of it are looked at for a page,
    which may then hold fewer, or nobody.
    """
    until = next_stop(reached_groups(message.release), after=after, page=LOOKED_AT)
    people = everyone(message, now=now, after=after, until=until)
    found = list(people.filter(reason=reason).order_by("pk")[: size + 1])
    end = found[size - 1].pk if len(found) > size else until
    return Part(found[:size], end, begins=after == 0)


@dataclass(frozen=True)
class ReleaseRow:
    """A release in a list, with its numbers."""

    release: Release
    message: Message | None
    reminder: Message | None
    mailed: int
    redeemed: int
    # Its time has come, and no worker has begun yet.
    starting: bool


def release_rows(releases: Iterable[Release], *, now: datetime) -> list[ReleaseRow]:
    """Four queries, however many releases."""
    releases = list(releases)
    messages = {message.release_id: message for message in Message.objects.announcing(releases)}
    sent_again = Message.objects.filter(release__in=releases, kind=Message.Kind.REMINDER)
    reminders = {message.release_id: message for message in sent_again}
    told = tallied([message.pk for message in messages.values()], leased=True)
    redeemed = redeemed_of(releases)
    return [
        ReleaseRow(
            release,
            message := messages.get(release.pk),
            reminders.get(release.pk),
            mailed_of(told.get(message.pk, {})) if message else 0,
            redeemed[release.pk],
            is_starting(release, now),
        )
        for release in releases
    ]


def is_starting(release: Release, now: datetime) -> bool:
    """Whether its time has come though no worker has begun it: what was sent "now" is never called scheduled."""
    return (
        release.state == Release.State.CONFIRMED
        and release.publish_at is not None
        and release.publish_at <= now
    )


def mailed_of(counts: Mapping[str, int]) -> int:
    """How many mails the mail system took, by the counts of each state."""
    return sum(counts.get(state, 0) for state in MAILED)


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
    """Whatever the size of the release: what was counted, and two counts of what came since."""
    came = turnout(release)
    return Numbers(
        entitled=release.granted,
        at_once=release.held,
        mailed=mailed_of(progress.counts),
        delivered=progress.counts.get(Delivery.State.DELIVERED, 0),
        redeemed=came.redeemed,
        downloaded=came.downloaded,
        late=max(0, release.granted - message.planned) if message.planned_at else 0,
    )


def with_deliveries(message: Message, grants: Iterable[Grant]) -> list[tuple[Grant, Delivery | None]]:
    """Each grant with what became of its mail: one query for a page."""
    grants = list(grants)
    people = {grant.contact_id: grant.contact for grant in grants}
    by_contact = {}
    for delivery in Delivery.objects.filter(message=message, contact__in=list(people)):
        delivery.contact = people[delivery.contact_id]
        by_contact[delivery.contact_id] = delivery
    return [(grant, by_contact.get(grant.contact_id)) for grant in grants]
