from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from config.demo import build


class Command(BaseCommand):
    """Ana's Forge stands: groups, people, bundles and releases to look at. Twice: the same."""

    help = "Make a demo creator with people, files and releases (only where mail stays on this machine)."

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.MAILBOX:
            raise CommandError(
                "The demo writes to made-up people: it is made only where mail goes to the mailbox page."
            )
        build.build(now=timezone.now())
        if options["verbosity"]:
            self.stdout.write(f"The demo stands: {settings.SITE_URL}/studio/{build.SLUG}/")
