"""Who supports Ana: sixty made-up people, as the file that Patreon would export."""

import csv
import io
import unicodedata
from datetime import datetime, timedelta
from zlib import crc32

from groups.models import Group

HEADINGS = (
    "Name,Email,Discord,Patron Status,Follows You,Free Member,Free Trial,Lifetime Amount,Pledge Amount,"
    "Charge Frequency,Tier,Addressee,Street,City,State,Zip,Country,Phone,Patronage Since Date,Last Charge Date,"
    "Last Charge Status,Additional Details,User ID,Last Updated,Currency,Max Posts,Access Expiration,"
    "Next Charge Date,Full country name,Subscription Source"
)
TIERS = {"Hobbyist": "5.00", "Collector": "10.00", "Merchant": "30.00"}
FIRST = "Éloïse Priya Mònica Yusuf Zoë Dmitri Uma Søren Ngozi Wren Aoife Tomás Ingrid Mateo Hana Olu Freya Kaito Lior Nadia"
LAST = "Schäfer Yılmaz Zielińska Moreau Okafor Lindqvist Nakamura Ferreira Novák O’Brien Haddad Petrov Jansen Castillo"

# Who supports her in other places than Patreon.
ELSEWHERE = {
    Group.Kind.TRIBERS: "Bram Visser, Chidi Eze, Esther Lang, Goran Babić, Irma Solis, Junko Mori, Klaus Brandt",
    Group.Kind.PIONEERS: "Lena Fuchs, Marek Dvořák, Nour Aziz, Oskar Holm, Paloma Reyes",
}


def everyone() -> list[tuple[str, str, str]]:
    """Name, address and tier of each; the last two are free members, who are nobody's patrons."""
    first, last = FIRST.split(), LAST.split()
    people = []
    for number in range(60):
        name = f"{first[number % len(first)]} {last[(number * 5 + number // 20) % len(last)]}"
        tier = "" if number > 57 else list(TIERS)[(0, 1, 0, 0, 2, 1)[number % 6]]
        people.append((name, address_of(name), tier))
    return people


def address_of(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name.replace("ø", "o").replace("ı", "i")).encode("ascii", "ignore")
    ending = ("org", "net", "com")[len(name) % 3]
    return f"{plain.decode().lower().replace(' ', '.')}@example.{ending}"


def patreon_export(people: list[tuple[str, str, str]], *, now: datetime) -> bytes:
    """The 30 columns of 2026, last updated at `now`."""
    out = io.StringIO()
    writer = csv.DictWriter(out, HEADINGS.split(","), restval="")
    writer.writeheader()
    for number, (name, address, tier) in enumerate(people):
        since = now - timedelta(days=40 + 37 * (number % 23), hours=number)
        writer.writerow(
            {
                "Name": name,
                "Email": address,
                "Patron Status": "Active patron" if tier else "",
                "Follows You": "Yes",
                "Free Member": "No" if tier else "Yes",
                "Free Trial": "No",
                "Pledge Amount": TIERS.get(tier, "0.00"),
                "Charge Frequency": "monthly" if tier else "",
                "Tier": tier,
                "Patronage Since Date": f"{since:%Y-%m-%d %H:%M:%S}" if tier else "",
                "Last Charge Status": "Paid" if tier else "",
                # The person's own, wherever they stand in the file.
                "User ID": 7_000_000 + crc32(name.encode()) % 1_000_000,
                "Last Updated": f"{now:%Y-%m-%d %H:%M:%S}",
                "Currency": "EUR",
                "Subscription Source": "web",
            }
        )
    return out.getvalue().encode()
