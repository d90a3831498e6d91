from django.contrib import messages
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _

from groups.models import Creator
from groups.rights import Right
from messaging.throttle import AboveCeiling, lock_caps, set_chosen
from studio import queries
from studio.forms.settings import PaceForm, SettingsForm
from studio.scope import StudioRequest, of_creator, posted, to_change


@of_creator(Right.READ, to_post=Right.RUN)
@transaction.atomic
def settings(request: StudioRequest, creator: Creator) -> HttpResponse:
    """What members see of a creator, and how often each group is written to."""
    creator = to_change(Creator.objects.all(), request).get(pk=creator.pk)
    form = SettingsForm(posted(request), instance=creator)
    if form.is_valid():
        form.save()
        messages.success(request, _("Saved."))
        return redirect("studio:settings", creator.slug)
    # What the form refused must not stand in the page's frame as if it were so.
    creator.refresh_from_db()
    context = {"creator": creator, "form": form, "limits": queries.limits(creator)}
    return render(request, "studio/settings.html", context)


@of_creator(Right.RUN)
@transaction.atomic
def set_pace(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """Fewer messages for a group than the ceiling allows; raising the ceiling is an admin's."""
    group = get_object_or_404(creator.groups.live().select_related("parent"), pk=pk)
    if request.method == "POST":
        lock_caps(group)
    limit = queries.limit_of(group)
    form = PaceForm(posted(request), initial={"week": limit.week, "month": limit.month})
    if form.is_valid():
        week, month = form.cleaned_data["week"], form.cleaned_data["month"]
        try:
            set_chosen(group, week=week, month=month, by=request.user, now=timezone.now())
        except AboveCeiling as refused:
            form.add_error(None, str(refused))
        else:
            messages.success(request, _("Saved. What is scheduled already stays."))
            return redirect("studio:settings", creator.slug)
    context = {"creator": creator, "group": group, "limit": limit, "form": form}
    return render(request, "studio/set_pace.html", context)
