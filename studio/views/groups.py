from django.contrib import messages
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _

from groups import services
from groups.imports.values import ValueRefused
from groups.models import Creator, Group
from groups.rights import Right
from groups.services.groups import GroupNameTaken, ImportUnderway, NameMissing, OneLevelOnly
from studio import queries, words
from studio.forms.groups import GroupForm, MemberFilter, NameForm, RenameForm
from studio.scope import StudioRequest, of_creator, posted, row_number, to_change

MEMBERS_A_PAGE = 25


@of_creator(Right.READ)
def groups(request: StudioRequest, creator: Creator) -> HttpResponse:
    """Every audience, its size, and how often it may still be written to."""
    context = {
        "creator": creator,
        "cards": queries.group_cards(creator, now=timezone.now()),
        "archived": creator.groups.exclude(archived_at=None).select_related("parent"),
    }
    return render(request, "studio/groups.html", context)


@of_creator(Right.PREPARE)
def create_group(request: StudioRequest, creator: Creator) -> HttpResponse:
    """A new main group, or with `?parent=` a sub group of one."""
    parent = None
    if number := request.GET.get("parent"):
        parent = get_object_or_404(creator.groups.live().main(), pk=row_number(number))
    form = (NameForm if parent else GroupForm)(posted(request))
    if form.is_valid():
        kind = form.cleaned_data.get("kind", Group.Kind.OTHER)
        try:
            group = services.create_group(
                creator, name=form.cleaned_data["name"], kind=kind, parent=parent, now=timezone.now()
            )
        except (GroupNameTaken, NameMissing, OneLevelOnly, ValueRefused) as refused:
            form.add_error("name", str(refused))
        else:
            return redirect("studio:group", creator.slug, group.pk)
    context = {"creator": creator, "parent": parent, "form": form, "sentences": words.of_new_group(parent)}
    return render(request, "studio/create_group.html", context)


@of_creator(Right.READ)
def group(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """A group's people, searchable, and what can be done with them."""
    group = get_object_or_404(creator.groups.live().select_related("parent"), pk=pk)
    now, chosen = timezone.now(), MemberFilter(request.GET).chosen
    filters = {"q": chosen["q"], "sub_group": chosen["group"], "ended": chosen["ended"]}
    found = queries.members(group, request.GET, **filters, size=MEMBERS_A_PAGE, now=now)
    context = {
        "creator": creator,
        "group": group,
        "chosen": chosen,
        "sub_groups": group.sub_groups.live(),
        "found": found,
        "page": found.page,
        "imports": group.imports.order_by("-created_at", "-id")[:5],
        "meter": queries.pace_of(group, now=now),
        "left": queries.memberships_of(creator).filter(group=group, pk=chosen["left"]).first(),
    }
    return render(request, "studio/group.html", context)


@of_creator(Right.PREPARE)
@transaction.atomic
def rename_group(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    groups = creator.groups.live().select_related("parent")
    group = get_object_or_404(to_change(groups, request), pk=pk)
    form = RenameForm(posted(request), initial={"name": group.name})
    if form.is_valid():
        try:
            services.rename_group(group, name=form.cleaned_data["name"])
        except (GroupNameTaken, NameMissing, ValueRefused) as refused:
            form.add_error("name", str(refused))
        else:
            messages.success(request, _("The group is called %(group)s now.") % {"group": group.name})
            return redirect("studio:group", creator.slug, group.pk)
    context = {"creator": creator, "group": group, "form": form, "sentences": words.of_renaming()}
    return render(request, "studio/rename_group.html", context)


@of_creator(Right.PREPARE)
def archive_group(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """Names what archiving ends, in numbers, and does it on the second press."""
    group = get_object_or_404(creator.groups.live().select_related("parent"), pk=pk)
    now = timezone.now()
    if request.method == "POST":
        try:
            ended = services.archive_group(group, now=now)
        except ImportUnderway as refused:
            messages.error(request, str(refused))
            return redirect("studio:group", creator.slug, group.pk)
        said = _("%(group)s is archived; %(count)s memberships ended.")
        messages.success(request, said % {"group": group, "count": ended})
        return redirect("studio:groups", creator.slug)
    sentences = words.of_archiving(group, people=queries.people_in(group, now=now))
    context = {"creator": creator, "group": group, "sentences": sentences}
    return render(request, "studio/archive_group.html", context)
