"""Ana's Forge from nothing: the same services a browser would call, at dates in the past weeks."""

import io
from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import uuid4

from allauth.account.models import EmailAddress
from django.core.files.base import ContentFile

from accounts.models import User
from config.demo import goods, people
from config.demo.goods import Goods
from distribution import services as distribution
from distribution.models import Release
from groups import services as groups
from groups.imports.mapping import Mapping
from groups.models import Creator, Group, Import
from library import services as library
from library.models import Bundle, Download, LibraryEntry, Upload
from messaging import services as messaging
from messaging.models import Message
from messaging.providers import provider

CREATOR_ADDRESS = "ana@example.org"
MEMBER_ADDRESS = "jo@example.org"
SLUG = "anas-forge"
TIERS = ("Hobbyist", "Collector", "Merchant")


def is_wanted() -> bool:
    """Whether there is nobody yet, or a demo that was begun and not finished."""
    return not Release.objects.filter(creator__slug=SLUG, title=DRAFT).exists() and (
        Creator.objects.filter(slug=SLUG).exists() or not User.objects.exists()
    )


def build(*, now: datetime) -> None:
    """Ana's Forge stands: people, bundles, what was released and who has it.

    Twice, or after a stop midway: what is there stays, what is missing is made.
    """

    def ago(days: float) -> datetime:
        return now - timedelta(days=days)

    ana = make_person(CREATOR_ADDRESS, "Ana Moreau", now=ago(60))
    jo = make_person(MEMBER_ADDRESS, "Jo Winter", now=ago(50))
    creator = make_creator(ana, now=ago(60))
    patrons = make_group(creator, "Patrons", now=ago(60))
    tiers = [make_group(creator, name, parent=patrons, now=ago(60)) for name in TIERS]
    for kind, names in people.ELSEWHERE.items():
        fill(make_group(creator, str(kind.label), kind=kind, now=ago(45)), names, now=ago(30))
    listed = [("Jo Winter", MEMBER_ADDRESS, "Collector"), *people.everyone()]
    import_people(patrons, ana, people.patreon_export(listed, now=ago(24)), now=ago(24))
    gears, tower, rules, knots, vases, moon = (
        make_bundle(creator, ana, thing, now=ago(age))
        for thing, age in (
            (goods.GEARS, 40),
            (goods.TOWER, 31),
            (goods.RULES, 23),
            (goods.KNOTS, 12),
            (goods.VASES, 3),
            (goods.MOON, 2),
        )
    )
    give(creator, "Clockwork and castle", [gears, tower], [patrons], WORDS, by=ana, now=ago(21))
    newcomers = [
        make_person(address, name, now=ago(20.5 - n / 3))
        for n, (name, address, _) in enumerate(listed[1:50:2])
    ]
    give(creator, "For your game night", [rules], tiers[1:], GAME_WORDS, by=ana, now=ago(9))
    give(creator, "A knot for everyone", [knots], [patrons], "", by=ana, now=ago(5))
    for n, person in enumerate([jo, *newcomers[::2]]):
        take_everything(person, now=ago(8 - n / 3))
    write(draft(creator, DRAFT, [vases, moon], [patrons], now=ago(1)), DRAFT_WORDS)


DRAFT = "Vases and a moon"
WORDS = """\
Hello {first_name|friend},

this month is **clockwork**: five gears that mesh, whichever two you take, and the keep that throws your dice.
Print the low tower first, it takes an evening.

Thank you for keeping the forge warm.
Ana
"""
GAME_WORDS = """\
Dear {first_name|keeper},

*The Lantern Keeper* is done. Twelve streets, a little fog, and a rule book of three pages, so that you can begin before
the coffee is cold. Tell me who won.

Ana
"""
DRAFT_WORDS = """\
Hello {first_name|friend},

a quiet month: three vases, and a moon for the window.

Ana
"""


def make_person(address: str, name: str, *, now: datetime) -> User:
    """Somebody with a verified address; what waited for it is theirs, as when one signs in."""
    user = User.objects.filter(email=address).first()
    if user is None:
        user = User.objects.create_user(address, name=name, date_joined=now)
    EmailAddress.objects.get_or_create(user=user, email=address, defaults={"verified": True, "primary": True})
    distribution.settle_waiting(user, now=now)
    return user


def make_creator(ana: User, *, now: datetime) -> Creator:
    found = Creator.objects.filter(slug=SLUG).first()
    return found or groups.create_creator(
        ana,
        name="Ana’s Forge",
        slug=SLUG,
        time_zone="Europe/Berlin",
        reply_to=CREATOR_ADDRESS,
        postal_address="Ana Moreau\nSchmiedgasse 7\n04109 Leipzig\nGermany",
        now=now,
    )


def make_group(
    creator: Creator,
    name: str,
    *,
    kind: Group.Kind = Group.Kind.PATRONS,
    parent: Group | None = None,
    now: datetime,
) -> Group:
    same_level = creator.groups.filter(parent=parent)  # type: ignore[optional-lookup]  # None: a group of its own
    found = same_level.filter(name=name).first()
    return found or groups.create_group(creator, name=name, kind=kind, parent=parent, now=now)


def fill(group: Group, names: str, *, now: datetime) -> None:
    """Everybody of the names is a member, added by hand."""
    for name in names.split(", "):
        groups.start_membership(
            group, groups.add_contact(group.creator, people.address_of(name), name, now=now), now=now
        )


def import_people(patrons: Group, ana: User, export: bytes, *, now: datetime) -> None:
    if Import.objects.filter(group=patrons, state=Import.State.DONE).exists():
        return
    file = ContentFile(export, name=f"patreon-{now:%Y-%m}.csv")
    run = groups.open_import(patrons, file, by=ana, now=now)
    # As recognised: a tier goes to the sub group of its name.
    groups.choose_mapping(run, Mapping.from_json(run.mapping), now=now)
    groups.check_import(run.pk, now=now)
    groups.request_apply(run, consent=True, gone_at=None, by=ana, now=now)
    groups.apply_import(run.pk, now=now)


def make_bundle(creator: Creator, ana: User, thing: Goods, *, now: datetime) -> Bundle:
    bundle, _ = Bundle.objects.get_or_create(
        creator=creator,
        title=thing.title,
        defaults={"description": thing.description, "licence": goods.LICENCE, "created_at": now},
    )
    if bundle.cover:
        return bundle
    files, cover = thing.make()
    for path, content in files.items():
        upload(bundle, path, content, by=ana, now=now)
    library.set_cover(bundle, io.BytesIO(cover))
    return bundle


def upload(bundle: Bundle, path: str, content: bytes, *, by: User, now: datetime) -> None:
    opened = library.open_upload(bundle, path, len(content), by=by, now=now)
    stream = io.BytesIO(content)
    for number in range(1, opened.part_count + 1):
        library.put_part(opened, number, stream, opened.size_of_part(number), now=now)
    library.complete_upload(opened, now=now)
    if library.verify_upload(opened.pk, now=now) != Upload.State.DONE:
        raise RuntimeError(f"{path} was not taken: {Upload.objects.get(pk=opened.pk).reason}")


def draft(
    creator: Creator, title: str, bundles: Iterable[Bundle], audience: Iterable[Group], *, now: datetime
) -> Release:
    if found := Release.objects.filter(creator=creator, title=title).first():
        return found
    release = distribution.start_release(creator, now=now)
    release.title = title
    release.save(update_fields=["title"])
    distribution.choose_bundles(release, bundles)
    distribution.choose_audience(release, audience, Release.Rule.LATE_JOINERS)
    return release


def write(release: Release, words: str) -> Message:
    message = messaging.start_message(release)
    if message.state == Message.State.DRAFT:
        message.subject, message.body = release.title, words
        message.save(update_fields=["subject", "body"])
    return message


def give(
    creator: Creator,
    title: str,
    bundles: Iterable[Bundle],
    audience: Iterable[Group],
    words: str,
    *,
    by: User,
    now: datetime,
) -> None:
    """The release is out, at `now`; with `words` everybody's mail lies in the mailbox."""
    release = draft(creator, title, bundles, audience, now=now)
    if not words:
        if release.state == Release.State.DRAFT:
            distribution.publish_release(release, publish_at=now, by=by, now=now)
        distribution.fan_out_grants(release.pk, now=now)
        return
    message = write(release, words)
    if message.state == Message.State.DRAFT:
        messaging.confirm_message(message, request_id=uuid4(), due_at=now, by=by, now=now)
    distribution.fan_out_grants(release.pk, now=now)
    messaging.plan_deliveries(message.pk, now=now)
    messaging.begin_sending(message.pk, now=now)
    messaging.send_waiting(owner="demo", provider=provider(), clock=lambda: now, stop=lambda: False)


def take_everything(person: User, *, now: datetime) -> None:
    """Downloads the first thing they hold."""
    entry = LibraryEntry.objects.filter(user=person).order_by("pk").first()
    if entry and not Download.objects.filter(user=person).exists():
        library.open_everything(person, entry.pk, first=True, now=now)
