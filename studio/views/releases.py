"""Releases that are on their way or were given: their list, their page, their people."""

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django_htmx.http import HttpResponseClientRefresh

from distribution.models import Release
from distribution.services import AlreadyGiving
from groups.models import Creator
from messaging.models import Delivery
from messaging.services import progress, start_message, unknown_deliveries, unschedule_message
from studio import queries, words
from studio.scope import StudioRequest, of_creator, post_only

RELEASES_A_PAGE = 20
PEOPLE_A_PAGE = 50
MOST_UNKNOWN = 200


@of_creator
def releases(request: StudioRequest, creator: Creator) -> HttpResponse:
    """Drafts, what is scheduled, and what was given, newest first."""
    page = Paginator(creator.releases.all(), RELEASES_A_PAGE).get_page(request.GET.get("page"))
    context = {"creator": creator, "page": page, "rows": queries.release_rows(page)}
    return render(request, "studio/releases.html", context)


@of_creator
def release(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """A release from its schedule to its numbers; while it moves, htmx asks for the moving part."""
    release = get_object_or_404(creator.releases.select_related("creator"), pk=pk)
    if release.state == Release.State.DRAFT:
        # Taken back in another window while this one was looking on.
        return HttpResponseClientRefresh() if request.htmx else redirect("studio:compose", creator.slug, pk)
    now, message = timezone.now(), start_message(release)
    found = progress(message, now=now)
    doubts = found.counts.get(Delivery.State.UNKNOWN, 0)
    context = {
        "creator": creator,
        "release": release,
        "message": message,
        "progress": found,
        "due": release.publish_at is not None and release.publish_at <= now,
        "stage": words.STAGES[found.stage],
        "moving": release.state != Release.State.PUBLISHED or found.stage not in {"done", "draft"},
        "numbers": (numbers := queries.numbers(release, message, found)),
        "funnel": words.of_funnel(numbers, reverse("studio:recipients", args=[creator.slug, pk])),
        "unmailed": words.of_unmailed(found.counts),
        "speed": words.of_speed(found),
        "unknown": unknown_deliveries(message)[:MOST_UNKNOWN] if doubts else [],
        "doubts": doubts,
        "items": release.items.select_related("bundle", "version"),
        "audience": release.audience_rows.select_related("group__parent"),
    }
    return render(request, "studio/release_live.html" if request.htmx else "studio/release.html", context)


@of_creator
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


@of_creator
def recipients(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """The people of a release by state, searchable."""
    release = get_object_or_404(creator.releases, pk=pk)
    message = start_message(release)
    state, q = request.GET.get("state", ""), request.GET.get("q", "")[:100]
    state = state if state in words.STATES_OF_PEOPLE else ""
    found = queries.recipients(release, message, state=state, q=q)
    page = Paginator(found, PEOPLE_A_PAGE).get_page(request.GET.get("page"))
    context = {
        "creator": creator,
        "release": release,
        "states": words.STATES_OF_PEOPLE,
        "state": state,
        "q": q,
        "page": page,
        "rows": queries.with_deliveries(message, page),
    }
    return render(request, "studio/recipients.html", context)
