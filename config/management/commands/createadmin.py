from typing import Any

from allauth.account.models import EmailAddress
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.utils import timezone

from accounts.addresses import AddressRefused, address_key
from accounts.models import User
from accounts.services import record
from config.sign_in_link import make_link


class Command(BaseCommand):
    """EMAIL is an admin of this installation, verified, and can sign in by the link. Twice: a fresh link."""

    help = "Make EMAIL an admin of this installation and print a link that signs them in."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email", metavar="EMAIL")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            address = address_key(options["email"])
        except AddressRefused as refused:
            raise CommandError(str(refused)) from refused
        admin = make_admin(address)
        self.stdout.write(f"{address} is an admin of this installation. This link signs them in,")
        self.stdout.write(f"once, within the hour:\n\n  {make_link(admin)}\n")


@transaction.atomic
def make_admin(address: str) -> User:
    user = User.objects.filter(email=address).first() or User.objects.create_user(address)
    if not user.is_superuser:
        user.is_staff = user.is_superuser = True
        user.save(update_fields=["is_staff", "is_superuser"])
        record(None, "made admin", address, now=timezone.now())
    EmailAddress.objects.get_or_create(user=user, email=address, defaults={"verified": True, "primary": True})
    return user
