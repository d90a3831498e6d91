"""What a draft would come to, beside its words: counted at once, or by a worker while the page waits (R3)."""

from datetime import datetime

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django_htmx.http import HttpResponseClientRefresh

from groups.models import Creator
from messaging import tasks
from messaging.models import DryRun, Message
from messaging.services import Outlook, ask_dry_run, outlook
from messaging.services.reminders import earliest
from studio import steering, words
from studio.forms.moments import next_minute
from studio.scope import StudioRequest, for_senders, of_creator


def outlook_of(message: Message, *, now: datetime, at: datetime | None = None) -> Outlook:
    """What would happen if `message` were confirmed for `at` (now). Of a large audience a worker is asked to count it."""
    run = ask_dry_run(message, now=now, at=at)
    if run and run.done_at is None:
        tasks.wake_dry_run(message.pk)
    return outlook(message, now=now, at=at, run=run)


@of_creator
def check(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """How far the counting of a draft is and what it comes to, for htmx. Who opens it comes to the draft's page."""
    return _check(request, creator, pk, Message.Kind.ANNOUNCEMENT)


@of_creator
@for_senders
def check_reminder(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """As `check`, of the reminder."""
    return _check(request, creator, pk, Message.Kind.REMINDER)


def _check(request: StudioRequest, creator: Creator, pk: int, kind: Message.Kind) -> HttpResponse:
    release = get_object_or_404(creator.releases, pk=pk)
    if not request.htmx:
        page = "studio:compose" if kind == Message.Kind.ANNOUNCEMENT else "studio:reminder"
        return redirect(page, creator.slug, pk)
    runs = DryRun.objects.select_related("message__release__creator")
    run = runs.filter(message__release=release, message__kind=kind).first()
    if run is None or run.message.state != Message.State.DRAFT:
        # Another tab was quicker: the page it stands on is not there any more.
        return HttpResponseClientRefresh()
    message, now = run.message, timezone.now()
    found = outlook(message, now=now, at=run.at, run=run)
    context = {"creator": creator, "release": message.release, "outlook": found, "polled": True}
    if kind == Message.Kind.ANNOUNCEMENT:
        offer = next_minute(found.verdict.next_at)
        return render(
            request, "studio/compose_check.html", {**context, "parts": words.of_check(found), "offer": offer}
        )
    first = earliest(message.release)
    return render(
        request,
        "studio/reminder_check.html",
        {**context, "parts": steering.of_reminding(found), "first": first if first > now else None},
    )
