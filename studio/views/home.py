from functools import partial

from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone

from accounts.addresses import AddressRefused
from distribution.models import Release
from groups.imports.values import ValueRefused
from groups.models import Creator
from groups.rights import Right
from groups.services import create_creator
from groups.services.creators import ByInvitationOnly, DetailsMissing, SlugTaken
from studio import queries, words
from studio.forms.creators import CreatorForm
from studio.scope import StudioRequest, of_creator, posted, with_right

SHOWN = 5


@partial(with_right, right=None)
def start(request: StudioRequest) -> HttpResponse:
    """The creators somebody runs, and the form to become one where the installation lets them (P2).

    Whoever runs one is led straight to it; with `?new` they find the form.
    """
    creators = list(Creator.objects.run_by(request.user).order_by("name", "id"))
    if request.method == "GET" and len(creators) == 1 and "new" not in request.GET:
        return redirect("studio:home", creators[0].slug)
    context = {"creators": creators, "way": settings.CREATORS}
    if settings.CREATORS == "invited" and not request.user.is_staff:
        return render(request, "studio/start.html", context)
    form = CreatorForm(posted(request), initial={"reply_to": request.user.email})
    if form.is_valid():
        try:
            creator = create_creator(request.user, **form.cleaned_data, now=timezone.now())
        except (SlugTaken, DetailsMissing, ByInvitationOnly, AddressRefused, ValueRefused) as refused:
            form.add_error(None, str(refused))
        else:
            return redirect("studio:home", creator.slug)
    return render(request, "studio/start.html", {**context, "form": form})


@of_creator(Right.READ)
def home(request: StudioRequest, creator: Creator) -> HttpResponse:
    """What there is to do, what went out, and what may go out next."""
    now = timezone.now()
    releases, states = creator.releases.all(), Release.State
    given = releases.exclude(state__in=[states.DRAFT, states.CONFIRMED]).order_by("-publish_at")[:SHOWN]
    context = {
        "creator": creator,
        "steps": words.of_first_steps(queries.begun(creator), creator),
        "groups": queries.group_cards(creator, now=now),
        "given": queries.release_rows(given, now=now),
        "scheduled": queries.release_rows(
            releases.filter(state=states.CONFIRMED).order_by("publish_at")[:SHOWN], now=now
        ),
        "drafts": queries.release_rows(releases.filter(state=states.DRAFT)[:SHOWN], now=now),
    }
    return render(request, "studio/home.html", context)
