"""The lists of members that a chaos run imports, and what they have to come to. Shared by rig and judge; plain Python."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass

TIER = "Forge"


@dataclass(frozen=True)
class Listed:
    """One person of a list."""

    outside_id: str
    address: str
    name: str


def first_list(group: int, members: int) -> list[Listed]:
    """Who belonged last month."""
    return [Listed(f"U{group}-{n}", f"m{n}@group{group}.example", f"Member {n}") for n in range(members)]


def second_list(group: int, members: int) -> list[Listed]:
    """This month's: the first tenth is gone, a fifth is new; some changed their names, some their addresses, and some
    swapped theirs.
    """
    return list(_second(group, members))


def _second(group: int, members: int) -> Iterator[Listed]:
    for n in range(members // 10, members + members // 5):
        address, name = f"m{n}@group{group}.example", f"Member {n}"
        if n < members and n % 25 == 7:
            address = f"moved{n}@group{group}.example"
        elif n < members and n % 50 in (20, 21):
            address = f"m{n ^ 1}@group{group}.example"
        elif n < members and n % 10 == 3:
            name = f"Renamed {n}"
        yield Listed(f"U{group}-{n}", address, name)


def file_of(listed: list[Listed]) -> bytes:
    """As Patreon exports it."""
    text = io.StringIO()
    lines = csv.writer(text)
    lines.writerow(["Name", "Email", "Patron Status", "Free Member", "Tier", "User ID"])
    lines.writerows([one.name, one.address, "Active patron", "No", TIER, one.outside_id] for one in listed)
    return text.getvalue().encode()
