"""One lap of a rival, in a process of its own: `python -m benchmarks.rivals.race office|each PATTERN MAILS PROCESSES`.

Both begin with the contacts, as Largesse does: a row for each recipient is part of the job. Prints its seconds.
"""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.rivals.settings")
django.setup()

from django.db import connection  # noqa: E402
from post_office import mail as office  # noqa: E402
from post_office.models import STATUS, Email, EmailTemplate  # noqa: E402

from benchmarks.rivals.each import PAGE, QUEUE, send_one  # noqa: E402
from benchmarks.rivals.models import Mail  # noqa: E402
from benchmarks.rivals.pattern import Pattern  # noqa: E402
from groups.models import Contact  # noqa: E402


def office_lap(path: str, mails: int, processes: int) -> None:
    """django-post_office: queued rows, rendered when they are sent, by several processes of several threads."""
    pattern = Pattern.read(path)
    EmailTemplate.objects.update_or_create(
        name="pattern",
        defaults={"subject": pattern.subject, "content": pattern.text, "html_content": pattern.html},
    )
    connection.close()
    share = mails // processes
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        pool.starmap(queue_some, [(path, at * share, (at + 1) * share) for at in range(processes)])
    office.send_queued_mail_until_done(lockfile=f"{path}.office", processes=processes, log_level=1)
    sent = Email.objects.filter(status=STATUS.sent).count()
    assert sent == share * processes, f"{sent} were sent"


def queue_some(path: str, first: int, last: int) -> None:
    pattern, template = Pattern.read(path), EmailTemplate.objects.get(name="pattern")
    for start in range(first, last, PAGE):
        people = Contact.objects.order_by("pk").values_list("address_key", "name")
        office.send_many(
            [
                {
                    "recipients": address,
                    "sender": pattern.sender,
                    "template": template,
                    "context": pattern.values(address, name),
                    "headers": {**pattern.headers_for(address), "Reply-To": pattern.reply_to},
                    "render_on_delivery": True,
                }
                for address, name in people[start : min(start + PAGE, last)]
            ]
        )


def each_lap(path: str, mails: int, _processes: int) -> None:
    """One task a recipient: the workers that take them up were started before."""
    people = Contact.objects.order_by("pk").values_list("address_key", "name")
    for start in range(0, mails, PAGE):
        rows = Mail.objects.bulk_create(
            Mail(address=address, name=name) for address, name in people[start : min(start + PAGE, mails)]
        )
        with send_one.app.producer_or_acquire() as producer:
            for row in rows:
                send_one.apply_async((path, row.pk), producer=producer, queue=QUEUE)
    while Mail.objects.filter(state="planned").exists():
        time.sleep(0.05)


if __name__ == "__main__":
    laps: dict[str, Callable[[str, int, int], None]] = {"office": office_lap, "each": each_lap}
    way, path, mails, processes = sys.argv[1:]
    began = time.perf_counter()
    laps[way](path, int(mails), int(processes))
    print(time.perf_counter() - began)
