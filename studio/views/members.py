from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from groups import services
from groups.models import Creator, Group
from groups.rights import Right
from groups.services import add_contact, start_membership
from groups.services.memberships import AlreadyInTree, GroupArchived
from studio import queries, words
from studio.forms.groups import MemberForm
from studio.scope import StudioRequest, of_creator, post_only, posted


@of_creator(Right.PREPARE)
def add_member(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """Two presses: the first says what the person gains and from where they move, the second adds them."""
    group = get_object_or_404(creator.groups.live().select_related("parent"), pk=pk)
    now = timezone.now()
    form = MemberForm(posted(request))
    context = {"creator": creator, "group": group, "form": form}
    if not form.is_valid():
        return render(request, "studio/add_member.html", context)
    person = form.cleaned_data["name"] or form.cleaned_data["address"]
    if "confirmed" in request.POST:
        try:
            contact = add_contact(creator, form.cleaned_data["address"], form.cleaned_data["name"], now=now)
            start_membership(group, contact, now=now, move="move" in request.POST)
        except (AlreadyInTree, GroupArchived) as refused:
            form.add_error(None, str(refused))
        else:
            messages.success(
                request, _("%(person)s is in %(group)s now.") % {"person": person, "group": group}
            )
            return redirect("studio:group", creator.slug, group.pk)
    joining = queries.joining(group, form.cleaned_data["address"], now=now)
    context |= {"joining": joining, "sentences": words.of_joining(person, joining)}
    return render(request, "studio/add_member.html", context)


@of_creator(Right.PREPARE)
def end_membership(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """Names what ends and what stays; once ended, the group's page offers to take it back."""
    membership = get_object_or_404(queries.memberships_of(creator), pk=pk)
    group = membership.group
    if request.method == "POST":
        services.end_membership(membership, now=timezone.now())
        page = reverse("studio:group", args=[creator.slug, group.pk])
        return redirect(f"{page}?left={membership.pk}")
    hears_from = list(Group.objects.reaching([group]).select_related("parent"))
    bundles = queries.given_bundles(membership.contact)
    sentences = words.of_leaving(membership, hears_from=hears_from, bundles=bundles)
    context = {"creator": creator, "group": group, "membership": membership, "sentences": sentences}
    return render(request, "studio/end_membership.html", context)


@of_creator(Right.PREPARE)
@post_only("studio:groups")
def start_again(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """Takes back that a membership ended: a new period begins, the ended one stays on record."""
    membership = get_object_or_404(queries.memberships_of(creator), pk=pk)
    try:
        start_membership(membership.group, membership.contact, now=timezone.now())
    except (AlreadyInTree, GroupArchived) as refused:
        messages.error(request, str(refused))
    else:
        said = _("%(person)s is in %(group)s again.")
        messages.success(request, said % {"person": membership.contact, "group": membership.group})
    return redirect("studio:group", creator.slug, membership.group_id)
