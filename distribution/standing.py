"""How things stand between a grant and whoever looks at it. Reads only: the redeem page is opened by scanners too."""

from dataclasses import dataclass
from enum import StrEnum

from django.db.models import Count, Sum

from accounts.addresses import masked
from accounts.models import User
from distribution.models import Grant, Release
from distribution.services import holder_of
from library.models import Bundle, File


class Place(StrEnum):
    """Where what was granted is, as the person looking at it needs to know it."""

    RECALLED = "recalled"  # taken back from everybody
    REVOKED = "revoked"  # taken back from this person
    WAITING = "waiting"  # for this person's press
    HERE = "here"  # in this person's library
    KEPT = "kept"  # in the library of the mailed address; nobody is signed in
    OTHER_ADDRESS = "other_address"  # for the mailed address, and somebody else is signed in
    ELSEWHERE = "elsewhere"  # in a library that the mailed address does not open


@dataclass(frozen=True)
class Standing:
    place: Place
    mailed_to: str  # masked
    signed_in_as: str  # masked; empty if nobody is
    mailed_opens: bool  # whether a code to the mailed address leads to it

    @property
    def taken_back(self) -> bool:
        return self.place in (Place.RECALLED, Place.REVOKED)


def standing_of(grant: Grant, user: User | None) -> Standing:
    """How things stand for `user`, or for somebody who is not signed in."""
    address = grant.contact.address_key
    owner = User.objects.filter(emailaddress__email=address, emailaddress__verified=True).first()
    holder = holder_of(grant)
    mailed_opens = holder is None or holder == owner
    if grant.release.recalled_at:
        place = Place.RECALLED
    elif grant.revoked_at:
        place = Place.REVOKED
    elif user is None:
        place = Place.WAITING if holder is None else Place.KEPT if mailed_opens else Place.ELSEWHERE
    elif user == holder:
        place = Place.HERE
    elif holder is None and user in (owner, grant.contact.account):
        place = Place.WAITING
    else:
        place = Place.OTHER_ADDRESS if mailed_opens else Place.ELSEWHERE
    return Standing(place, masked(address), masked(user.email) if user else "", mailed_opens)


@dataclass(frozen=True)
class Inside:
    """A bundle that is given: how many files of each kind, most first, and how many bytes."""

    bundle: Bundle
    kinds: list[tuple[str, int]]
    files: int
    size: int


def what_is_inside(release: Release) -> list[Inside]:
    """What the release gives, bundle by bundle. Two queries."""
    found: dict[int | None, list[tuple[str, int, int]]] = {}
    for version_id, kind, files, size in (
        File.objects.filter(version__release_items__release=release)
        .values_list("version_id", "kind")
        .annotate(files=Count("pk"), size=Sum("blob__size"))
        .order_by("-files", "kind")
    ):
        found.setdefault(version_id, []).append((kind, files, size))
    inside = []
    for item in release.items.select_related("bundle"):
        rows = found.get(item.version_id, [])
        kinds = [(kind, files) for kind, files, _size in rows]
        inside.append(Inside(item.bundle, kinds, sum(row[1] for row in rows), sum(row[2] for row in rows)))
    return inside
