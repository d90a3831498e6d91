"""Exports in the shape of the real ones, made up: what tests, the demo's browser test and benchmarks import."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

# As the platform prints them, so that they can be compared with a real export by eye.
PATREON_2026 = (  # noqa: SIM905
    "Name,Email,Discord,Patron Status,Follows You,Free Member,Free Trial,Lifetime Amount,Pledge Amount,"
    "Charge Frequency,Tier,Addressee,Street,City,State,Zip,Country,Phone,Patronage Since Date,Last Charge Date,"
    "Last Charge Status,Additional Details,User ID,Last Updated,Currency,Max Posts,Access Expiration,"
    "Next Charge Date,Full country name,Subscription Source"
).split(",")
PATREON_2023 = (  # noqa: SIM905
    "Name,Email,Twitter,Discord,Patron Status,Follows You,Lifetime Amount,Pledge Amount,Charge Frequency,Tier,"
    "Addressee,Street,City,State,Zip,Country,Phone,Patronage Since Date,Last Charge Date,Last Charge Status,"
    "Additional Details,User ID,Last Updated,Currency,Max Posts,Access Expiration,Next Charge Date"
).split(",")

OCTOBER = datetime(2026, 10, 2, 3, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 2, 3, tzinfo=UTC)
TIERS = ("Hobbyist", "Collector", "Merchant")
NAMES = ("Éloïse", "Priya", "Mònica", "Ana", "Yusuf", "Zoë", "Dmitri", "Uma", "Søren", "Ngozi")


@dataclass(frozen=True)
class Patron:
    """One row of a Patreon export."""

    number: int
    name: str = ""
    email: str = ""
    tier: str = "Hobbyist"
    status: str = "Active patron"
    free: bool = False
    since: str = "2025-03-01 07:46:37.482913"
    until: str = ""

    @property
    def user_id(self) -> str:
        return str(4_100_000 + self.number)


def patron(number: int, **fields: object) -> Patron:
    """A patron with a name, an address and a tier of their own."""
    made = Patron(
        number,
        name=f"{NAMES[number % len(NAMES)]} {number}",
        email=f"patron{number}@example.org",
        tier=TIERS[number % len(TIERS)],
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def patreon_export(
    people: Iterable[Patron], month: datetime, *, headings: list[str] = PATREON_2026, delimiter: str = ","
) -> bytes:
    """A Patreon export of `people`, last updated at `month`."""
    text = io.StringIO()
    writer = csv.DictWriter(
        text, headings, extrasaction="ignore", restval="", delimiter=delimiter, lineterminator="\n"
    )
    writer.writeheader()
    for one in people:
        writer.writerow(
            {
                "Name": one.name,
                "Email": one.email,
                "Patron Status": one.status,
                "Follows You": "Yes",
                "Free Member": "Yes" if one.free else "No",
                "Free Trial": "No",
                "Lifetime Amount": "1,050.00",
                "Pledge Amount": "5.00",
                "Charge Frequency": "monthly",
                "Tier": one.tier,
                "Patronage Since Date": one.since,
                "Last Charge Date": f"{month - timedelta(days=1):%Y-%m-%d %H:%M:%S}",
                "Last Charge Status": "Declined" if one.status == "Declined patron" else "Paid",
                "User ID": one.user_id,
                "Last Updated": f"{month:%Y-%m-%d %H:%M:%S}",
                "Currency": "USD",
                "Access Expiration": one.until,
                "Next Charge Date": f"{month + timedelta(days=29):%Y-%m-%d %H:%M:%S}",
                "Subscription Source": "web",
            }
        )
    return text.getvalue().encode()


def plain_list(addresses: Iterable[str], *, heading: str = "email") -> bytes:
    """One column of addresses; `heading=""` leaves it without one."""
    return "".join(f"{line}\n" for line in ([heading] if heading else []) + list(addresses)).encode()


def october() -> list[Patron]:
    """24 people: 18 active, one of them leaving on 14 November, two former, two declined, two free."""
    people = [patron(number) for number in range(24)]
    people[4] = replace(people[4], status="Declined patron")
    people[5] = replace(people[5], status="Declined patron")
    people[8] = replace(people[8], status="Former patron")
    people[9] = replace(people[9], status="Former patron")
    people[12] = replace(people[12], until="2026-11-14 00:00:00")
    people[14] = replace(people[14], status="", tier="", free=True)
    people[15] = replace(people[15], status="", tier="", free=True)
    people[20] = replace(people[20], email="k3v9x2m7@privaterelay.appleid.com")
    people[21] = replace(people[21], email="Patron21@Example.Org")
    return people


def november() -> list[Patron]:
    """October a month later: two not listed, one's access ran out, one paid again, a new address, two tiers, three new."""
    people = {one.number: one for one in october() if one.number not in {3, 16}}
    people[5] = replace(people[5], status="Active patron")
    people[7] = replace(people[7], email="new.address.7@example.org")
    people[10] = replace(people[10], tier="Merchant")
    people[12] = replace(people[12], status="Former patron", until="")
    people[19] = replace(people[19], tier="Merchant")
    people[21] = replace(people[21], email="patron21@example.org")
    return [*people.values(), *(patron(number) for number in (30, 31, 32))]
