"""What a draft would come to, beside its words: counted at once, or by a worker while the page waits (R3)."""

from datetime import datetime

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django_htmx.http import HttpResponseClientRefresh, HttpResponseStopPolling, reswap, retarget

from distribution.models import Release
from groups.models import Creator
from groups.rights import Right
from messaging import tasks
from messaging.models import DryRun, Message
from messaging.services import Outlook, ask_dry_run, outlook
from messaging.services.reminders import earliest
from studio import steering, words
from studio.forms.moments import next_minute
from studio.scope import StudioRequest, of_creator


def outlook_of(message: Message, *, now: datetime, at: datetime | None = None) -> Outlook:
    """What would happen if `message` were confirmed for `at` (now). Of a large audience a worker is asked to count it."""
    run = ask_dry_run(message, now=now, at=at)
    if run and run.done_at is None:
        tasks.wake_dry_run(message.pk)
    return outlook(message, now=now, at=at, run=run)


@of_creator(Right.READ)
def check(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """How far the counting of a draft is and what it comes to, for htmx. Who opens it comes to the draft's page."""
    return _check(request, creator, pk, Message.Kind.ANNOUNCEMENT)


@of_creator(Right.SEND)
def check_reminder(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """As `check`, of the reminder."""
    return _check(request, creator, pk, Message.Kind.REMINDER)


def _check(request: StudioRequest, creator: Creator, pk: int, kind: Message.Kind) -> HttpResponse:
    if not request.htmx:
        get_object_or_404(creator.releases, pk=pk)
        page = "studio:compose" if kind == Message.Kind.ANNOUNCEMENT else "studio:reminder"
        return redirect(page, creator.slug, pk)
    runs = DryRun.objects.select_related("message__release__creator").filter(message__kind=kind)
    run = runs.filter(message__release__in=creator.releases.filter(pk=pk)).first()
    if run is None or not _stands(run.message):
        # Another tab was quicker: the page that asks is not there any more.
        return HttpResponseClientRefresh()
    if run.question != request.GET.get("question"):
        return render(request, "studio/counted_elsewhere.html", status=HttpResponseStopPolling.status_code)
    context = {"creator": creator, "release": run.message.release, "run": run, "polled": True}
    if run.done_at is None:
        return render(request, "studio/counting.html", {**context, "check_url": request.path})
    found = outlook(run.message, now=timezone.now(), at=run.at, run=run)
    context["outlook"] = found
    if kind == Message.Kind.ANNOUNCEMENT:
        parts, offer = words.of_check(found), next_minute(found.verdict.next_at)
        done = render(request, "studio/compose_check.html", {**context, "parts": parts, "offer": offer})
    else:
        parts, first = steering.of_reminding(found), earliest(run.message.release)
        waits = first if first > timezone.now() else None
        done = render(request, "studio/reminder_check.html", {**context, "parts": parts, "first": waits})
    return reswap(retarget(done, "#outlook"), "outerHTML")


def _stands(message: Message) -> bool:
    """Whether it is a draft still; a release published without a mail leaves its message one for ever."""
    published = message.kind == Message.Kind.ANNOUNCEMENT and message.release.state != Release.State.DRAFT
    return message.state == Message.State.DRAFT and not published
