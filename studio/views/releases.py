"""Releases that are on their way or were given: their list, their page, their people."""

from dataclasses import dataclass
from datetime import datetime

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django_htmx.http import HttpResponseClientRefresh

from distribution.models import Release
from distribution.services import AlreadyGiving, take_newest
from groups.models import Creator
from groups.rights import Right
from library.services import StillUploading
from messaging.models import Message
from messaging.services import Progress, progress, start_message, unschedule_message
from studio import queries, steering, words
from studio.scope import StudioRequest, of_creator, post_only

RELEASES_A_PAGE = 20
PEOPLE_A_PAGE = 50
# Nothing about such a release changes by itself.
STILL = {Release.State.PUBLISHED, Release.State.RECALLED}


@dataclass(frozen=True)
class Panel:
    """One message of a release as its page shows it."""

    message: Message
    progress: Progress
    stage: str
    speed: str
    # What pausing or resuming comes to; empty where neither can be done.
    pausing: str
    undelivered: list[dict[str, object]]
    moving: bool


@of_creator(Right.READ)
def releases(request: StudioRequest, creator: Creator) -> HttpResponse:
    """Drafts, what is scheduled, and what was given, newest first."""
    page = Paginator(creator.releases.all(), RELEASES_A_PAGE).get_page(request.GET.get("page"))
    context = {"creator": creator, "page": page, "rows": queries.release_rows(page, now=timezone.now())}
    return render(request, "studio/releases.html", context)


@of_creator(Right.READ)
def release(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """A release from its schedule to its numbers; while it moves, htmx asks for the moving part."""
    release = get_object_or_404(creator.releases.select_related("creator"), pk=pk)
    if release.state == Release.State.DRAFT:
        # Taken back in another window while this one was looking on.
        return HttpResponseClientRefresh() if request.htmx else redirect("studio:compose", creator.slug, pk)
    now, message = timezone.now(), start_message(release)
    others = list(release.messages.exclude(pk=message.pk).exclude(state=Message.State.DRAFT).order_by("pk"))
    told = [_panel(one, release, now) for one in (message, *others)]
    found = told[0].progress
    context = {
        "creator": creator,
        "release": release,
        "message": message,
        "first": told[0],
        "others": told[1:],
        "starting": queries.is_starting(release, now),
        "moving": release.state not in STILL or any(one.moving for one in told),
        "numbers": (numbers := queries.numbers(release, message, found)),
        "funnel": words.of_funnel(numbers, reverse("studio:recipients", args=[creator.slug, pk])),
        "arrival": steering.of_arrival(found.counts),
        "reminding": queries.reminding(release, numbers, others, now=now),
        "items": (items := list(release.items.select_related("bundle", "version").with_newest())),
        "outdated": release.state == Release.State.CONFIRMED
        and any(item.version and item.newest != item.version.number for item in items),
        "audience": release.audience_rows.select_related("group__parent"),
    }
    return render(request, "studio/release_live.html" if request.htmx else "studio/release.html", context)


def _panel(message: Message, release: Release, now: datetime) -> Panel:
    message.release = release
    found = progress(message, now=now)
    return Panel(
        message=message,
        progress=found,
        stage=str(words.STAGES[found.stage]),
        speed=words.of_speed(found),
        pausing=steering.of_pausing(message, found),
        undelivered=steering.of_undelivered(found.counts),
        moving=found.stage not in {"done", "draft", "paused", "cancelled"},
    )


@of_creator(Right.SEND)
@post_only("studio:release", "pk")
def unschedule(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """Back to a draft, with its slots free, as long as nothing was given."""
    release = get_object_or_404(creator.releases, pk=pk)
    try:
        unschedule_message(start_message(release), now=timezone.now())
    except AlreadyGiving as refused:
        messages.error(request, str(refused))
        return redirect("studio:release", creator.slug, pk)
    messages.success(request, _("It is a draft again. Nobody was given anything, and nobody was written to."))
    return redirect("studio:compose", creator.slug, pk)


@of_creator(Right.SEND)
@post_only("studio:release", "pk")
def take_newest_versions(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """What waits for its time gives the bundles as they are now."""
    release = get_object_or_404(creator.releases, pk=pk)
    try:
        changed = take_newest(release, by=request.user, now=timezone.now())
    except (AlreadyGiving, StillUploading) as refused:
        messages.error(request, str(refused))
    else:
        done = _("It gives the newest files now.") if changed else _("It gives the newest files already.")
        messages.success(request, done)
    return redirect("studio:release", creator.slug, pk)


@of_creator(Right.READ)
def recipients(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """The people of a release by state, searchable."""
    release = get_object_or_404(creator.releases, pk=pk)
    message = start_message(release)
    state, q = request.GET.get("state", ""), request.GET.get("q", "")[:100]
    state = state if state in words.STATES_OF_PEOPLE else ""
    found = queries.recipients(release, message, request.GET, state=state, q=q, size=PEOPLE_A_PAGE)
    context = {
        "creator": creator,
        "release": release,
        "states": words.STATES_OF_PEOPLE,
        "state": state,
        "q": q,
        "found": found,
        "page": found.page,
        "rows": queries.with_deliveries(message, found.page),
    }
    return render(request, "studio/recipients.html", context)
