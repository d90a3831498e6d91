"""The people of a chaos run: a process that does what a web request would, one order a line, one answer a line.

`{"act": "pause"}` in, `{"at": 1700000000.0}` out: the moment at which the act had come back. An act that failed
answers `{"error": …}`; whoever ordered it presses again.
"""

import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from django.conf import settings  # noqa: E402
from django.db import connection, connections  # noqa: E402
from django.test import Client  # noqa: E402
from django.urls import reverse  # noqa: E402
from django.utils import timezone  # noqa: E402

from accounts.models import Suppression, User  # noqa: E402
from accounts.services import suppress  # noqa: E402
from groups.models import Contact, Membership  # noqa: E402
from groups.services import end_membership  # noqa: E402
from library.models import Blob, BundleVersion, File  # noqa: E402
from library.services import seal_version  # noqa: E402
from messaging import services, tasks  # noqa: E402
from messaging.models import Delivery, Message, Preference  # noqa: E402
from tests.chaos import chores  # noqa: E402
from tests.messaging.posts import resend, signed_by_svix  # noqa: E402


def confirm(message: int, staff: Sequence[int], clicks: int) -> dict[str, Any]:
    """Each of the staff presses Send at the same moment, each several times: one message goes, once."""
    gate = threading.Barrier(len(staff) * clicks)
    said: list[str] = []

    def press(user: int, request_id: UUID) -> None:
        try:
            by, draft = User.objects.get(pk=user), Message.objects.get(pk=message)
            now = timezone.now()
            gate.wait(30)
            services.confirm_message(draft, request_id=request_id, due_at=now, by=by, now=now)
            tasks.wake_message(message)
            said.append("confirmed")
        except services.ConfirmRefused as refused:
            said.append(type(refused).__name__)
        finally:
            connections.close_all()

    forms = [(user, form) for user in staff for form in [uuid4()] for _click in range(clicks)]
    threads = [threading.Thread(target=press, args=form) for form in forms]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"said": sorted(said)}


def confirm_and_die(message: int, staff: Sequence[int]) -> None:
    """The web server is shot right after the commit, before it rang anybody."""
    by, draft = User.objects.get(pk=staff[0]), Message.objects.get(pk=message)
    now = timezone.now()
    services.confirm_message(draft, request_id=uuid4(), due_at=now, by=by, now=now)
    os.kill(os.getpid(), signal.SIGKILL)


def pause(message: int, staff: Sequence[int]) -> None:
    by = User.objects.get(pk=staff[0])
    services.pause_message(Message.objects.get(pk=message), by=by, now=timezone.now())


def resume(message: int, staff: Sequence[int]) -> None:
    by = User.objects.get(pk=staff[0])
    services.resume_message(Message.objects.get(pk=message), by=by, now=timezone.now())


def cancel(message: int, staff: Sequence[int]) -> None:
    by = User.objects.get(pk=staff[0])
    services.cancel_message(Message.objects.get(pk=message), by=by, now=timezone.now())


def unsubscribe(contacts: Sequence[int]) -> None:
    for contact in Contact.objects.filter(pk__in=contacts):
        services.set_preference(contact, Preference.Choice.NOTHING, now=timezone.now())


def leave(contacts: Sequence[int]) -> None:
    for membership in Membership.objects.filter(contact__in=contacts, ended_at=None):
        end_membership(membership, now=timezone.now())


def bounce(contacts: Sequence[int]) -> None:
    """A provider says of another creator's mail that the address does not exist."""
    for contact in Contact.objects.filter(pk__in=contacts):
        suppress(contact.address_key, Suppression.Reason.BOUNCE, now=timezone.now())


def post_events(delivered: Sequence[int], forged: Sequence[int]) -> dict[str, Any]:
    """The provider says twice of each of some deliveries that it arrived, in any order; and somebody else, who does not
    know its secret, that others are complaints.
    """
    now = timezone.now()
    rows = {row.pk: row for row in Delivery.objects.filter(pk__in=[*delivered, *forged])}
    posts = [resend("delivered", rows[pk], now) for pk in delivered] * 2
    for pk in forged:
        body = resend("complained", rows[pk], now).body
        posts.append(signed_by_svix(body, now, name=f"msg_{pk}", secret="Zm9yZ2VkLWZvcmdlZC1mb3JnZWQ="))
    random.shuffle(posts)
    web = Client(SERVER_NAME=urlsplit(settings.SITE_URL).hostname)
    place = reverse("messaging:provider_events", args=["resend"])
    said = Counter(
        web.generic(
            "POST", place, post.body, post.content_type, secure=True, headers=post.headers
        ).status_code
        for post in posts
    )
    return {"said": said}


def edit_bundle(version: int) -> None:
    """A newer version is sealed while the one before it is being given."""
    old = BundleVersion.objects.get(pk=version)
    now = timezone.now()
    number = BundleVersion.objects.filter(bundle=old.bundle).count() + 1
    new = BundleVersion.objects.create(bundle=old.bundle, number=number)
    blob = Blob.objects.filter(creator=old.bundle.creator).latest("pk")
    name = f"b{number}.stl"
    File.objects.create(version=new, blob=blob, path=name, path_key=name, kind="stl", added_at=now)
    seal_version(old.bundle, now=now)


ACTS: dict[str, Callable[..., dict[str, Any] | None]] = {
    act.__name__: act
    for act in (
        confirm,
        confirm_and_die,
        pause,
        resume,
        cancel,
        unsubscribe,
        leave,
        bounce,
        post_events,
        edit_bundle,
    )
} | chores.ACTS


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = ACTS[order.pop("act")](**order) or {}
        except Exception as error:
            # As a page that says "something went wrong": the person presses again.
            connection.close()
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        sys.stdout.write(json.dumps({**answer, "at": time.time()}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
