from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone

from groups.models import Creator
from groups.services import create_creator
from studio import queries
from studio.forms.creators import CreatorForm
from studio.scope import StudioRequest, of_creator, posted


def start(request: StudioRequest) -> HttpResponse:
    """The creators somebody runs, and the form to become one where the installation lets them (P2)."""
    creators = list(Creator.objects.run_by(request.user).order_by("name", "id"))
    context = {"creators": creators, "way": settings.CREATORS}
    if settings.CREATORS == "invited" and not request.user.is_staff:
        return render(request, "studio/start.html", context)
    form = CreatorForm(posted(request), initial={"reply_to": request.user.email})
    if form.is_valid():
        creator = create_creator(request.user, **form.cleaned_data, now=timezone.now())
        return redirect("studio:home", creator.slug)
    return render(request, "studio/start.html", {**context, "form": form})


@of_creator
def home(request: StudioRequest, creator: Creator) -> HttpResponse:
    """What there is to do, what went out, and what may go out next."""
    now = timezone.now()
    releases = creator.releases.all()
    context = {
        "creator": creator,
        "steps": queries.begun(creator),
        "groups": queries.group_cards(creator, now=now),
        "drafts": releases.filter(state="draft")[:5],
    }
    return render(request, "studio/home.html", context)
