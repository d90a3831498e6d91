import gzip
import sys
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from messaging import gate
from messaging.services.settle import GRACE, settle_by_log
from messaging.services.unlock import NotLocked, doubts, outlook_of, unlock_sending
from messaging.standing import lines


class Command(BaseCommand):
    """What an operator asks and does about all mail that goes out from here."""

    help = "See how sending stands; lock and unlock it; settle what is in doubt."

    def add_arguments(self, parser: CommandParser) -> None:
        asked = parser.add_subparsers(dest="what", required=True)
        asked.add_parser("status", help="How sending stands, on one screen.").set_defaults(do=self.status)
        lock = asked.add_parser("lock", help="Send nothing until it is unlocked, as before a restore.")
        lock.add_argument("because", metavar="WHY")
        lock.set_defaults(do=self.lock)
        unlock = asked.add_parser("unlock", help="Let a copied or restored database send again.")
        how = unlock.add_mutually_exclusive_group()
        how.add_argument(
            "--nothing-was-sent",
            action="store_true",
            help="No mail has left since the day the database is of: all goes on where it was.",
        )
        how.add_argument(
            "--as-new",
            action="store_true",
            help="This is a copy whose original lives on: cancel all that is under way or scheduled.",
        )
        unlock.add_argument("--yes", action="store_true", help="Do not ask.")
        unlock.set_defaults(do=self.unlock)
        self.add_settle(asked.add_parser("settle", help="Settle mails in doubt from the relay's log."))

    def add_settle(self, settle: CommandParser) -> None:
        settle.add_argument(
            "--log",
            action="append",
            required=True,
            metavar="FILE",
            help="The relay's log; - is what comes in. Several: each with --log, the oldest first. May be .gz.",
        )
        settle.add_argument(
            "--complete",
            action="store_true",
            help="These logs hold all that the relay did since the oldest doubt: send those that are not in them again.",
        )
        settle.add_argument(
            "--grace",
            type=float,
            default=GRACE.total_seconds(),
            metavar="SECONDS",
            help="Send none again that was offered less than this ago (default: %(default)g).",
        )
        settle.set_defaults(do=self.settle)

    def handle(self, *args: Any, **options: Any) -> None:
        options["do"](options)

    def status(self, options: dict[str, Any]) -> None:
        for line in lines(timezone.now()):
            self.stdout.write(line)

    def lock(self, options: dict[str, Any]) -> None:
        locked = gate.lock(options["because"], timezone.now())
        self.stdout.write("Sending is locked." if locked else "Sending was locked already.")

    def unlock(self, options: dict[str, Any]) -> None:
        now = timezone.now()
        if not gate.needs_unlocking():
            raise CommandError(str(NotLocked()))
        nothing_was_sent, as_new = options["nothing_was_sent"], options["as_new"]
        for line in outlook_of(doubts(now), nothing_was_sent=nothing_was_sent, as_new=as_new):
            self.stdout.write(line)
        if not options["yes"] and input("Type yes to do it: ").strip().lower() != "yes":
            raise CommandError("Nothing was done.")
        unlock_sending(by=None, now=timezone.now(), nothing_was_sent=nothing_was_sent, as_new=as_new)
        self.stdout.write("Sending is unlocked. What goes on begins within seconds.")

    def settle(self, options: dict[str, Any]) -> None:
        grace = options["grace"]
        if grace <= settings.SEND_LEASE_SECONDS:
            raise CommandError(
                f"--grace must be longer than a lease: {settings.SEND_LEASE_SECONDS:g} seconds."
            )
        try:
            found = settle_by_log(
                _lines_of(options["log"]),
                now=timezone.now(),
                complete=options["complete"],
                grace=timedelta(seconds=grace),
            )
        except OSError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{found.accepted} were taken by the relay.")
        self.stdout.write(f"{found.bounced} were taken and came back.")
        if options["complete"] and not found.known:
            raise CommandError("No mail of ours is in these logs: are they the relay's? None is sent again.")
        if options["complete"]:
            self.stdout.write(f"{found.planned} were not taken and are sent again.")
            self.stdout.write(f"{found.cancelled} were not taken and are not sent any more.")
        self.stdout.write(f"{found.left} are still in doubt.")


def _lines_of(names: Iterable[str]) -> Iterator[str]:
    """The lines of all files, one at a time. What is not UTF-8 in them is no matter."""
    for name in names:
        if name == "-":
            yield from sys.stdin
            continue
        opened = gzip.open if name.endswith(".gz") else open
        with opened(name, "rt", encoding="utf-8", errors="replace") as file:
            yield from file
