from django.contrib import messages
from django.core.paginator import Paginator
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _

from groups.models import Creator
from groups.rights import Right
from library import services
from library.models import Bundle
from library.names import NameRefused
from library.prose import to_html
from library.services import BundleArchived, FileMoved, NameTaken, PictureRefused
from studio import queries
from studio.forms.bundles import BundleForm, CoverForm, PathForm, TitleForm
from studio.scope import StudioRequest, of_creator, post_only, posted, to_change

BUNDLES_A_PAGE = 24
FILES_A_PAGE = 200


@of_creator(Right.READ)
def bundles(request: StudioRequest, creator: Creator) -> HttpResponse:
    """Everything there is to give, newest first."""
    archived = "archived" in request.GET
    found = creator.bundles.exclude(archived_at=None) if archived else creator.bundles.live()
    page = Paginator(found, BUNDLES_A_PAGE).get_page(request.GET.get("page"))
    context = {"creator": creator, "page": page, "cards": queries.bundle_cards(page), "archived": archived}
    return render(request, "studio/bundles.html", context)


@of_creator(Right.PREPARE)
def create_bundle(request: StudioRequest, creator: Creator) -> HttpResponse:
    form = TitleForm(posted(request), instance=Bundle(creator=creator, created_at=timezone.now()))
    if form.is_valid():
        bundle = form.save()
        return redirect("studio:bundle", creator.slug, bundle.pk)
    return render(request, "studio/create_bundle.html", {"creator": creator, "form": form})


@of_creator(Right.READ)
def bundle(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """A bundle's files, how they come in, and who holds it."""
    bundle = get_object_or_404(creator.bundles, pk=pk)
    context = {
        "creator": creator,
        "bundle": bundle,
        "card": queries.bundle_cards([bundle])[0],
        "version": (version := services.latest_version(bundle)),
        "page": Paginator(queries.files_of(version), FILES_A_PAGE).get_page(request.GET.get("page")),
        "uploads": queries.unfinished_uploads(bundle),
        "versions": bundle.versions.sealed(),
        "releases": creator.releases.filter(items__bundle=bundle).exclude(state="draft")[:5],
        "cover_form": CoverForm(),
        "description": to_html(bundle.description),
        "licence": to_html(bundle.licence),
    }
    return render(request, "studio/bundle.html", context)


@of_creator(Right.PREPARE)
@transaction.atomic
def edit_bundle(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """Title, description and licence; htmx asks for the description as it will look."""
    if request.htmx:
        return HttpResponse(to_html(request.POST.get("description", "")[:20_000]))
    bundle = get_object_or_404(to_change(creator.bundles.live(), request), pk=pk)
    form = BundleForm(posted(request), instance=bundle)
    if form.is_valid():
        form.save()
        messages.success(request, _("Saved."))
        return redirect("studio:bundle", creator.slug, bundle.pk)
    preview = to_html(str(form["description"].value() or ""))
    context = {"creator": creator, "bundle": bundle, "form": form, "preview": preview}
    return render(request, "studio/edit_bundle.html", context)


@of_creator(Right.PREPARE)
@post_only("studio:bundle", "pk")
def set_cover(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    bundle = get_object_or_404(creator.bundles.live(), pk=pk)
    form = CoverForm(request.POST, request.FILES)
    if not form.is_valid():
        messages.error(request, _("Choose a picture first."))
    else:
        try:
            services.set_cover(bundle, form.cleaned_data["picture"])
        except (PictureRefused, services.QuotaReached) as refused:
            messages.error(request, str(refused))
    return redirect("studio:bundle", creator.slug, bundle.pk)


@of_creator(Right.PREPARE)
def archive_bundle(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """Says who keeps it, and archives it on the second press."""
    bundle = get_object_or_404(creator.bundles.live(), pk=pk)
    if request.method == "POST":
        services.archive_bundle(bundle, now=timezone.now())
        messages.success(request, _("“%(title)s” is archived.") % {"title": bundle.title})
        return redirect("studio:bundles", creator.slug)
    context = {"creator": creator, "bundle": bundle, "card": queries.bundle_cards([bundle])[0]}
    return render(request, "studio/archive_bundle.html", context)


@of_creator(Right.PREPARE)
def rename_file(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    file = get_object_or_404(queries.files_in(creator), pk=pk)
    form = PathForm(posted(request), initial={"path": file.path})
    if form.is_valid():
        try:
            services.rename_file(file, form.cleaned_data["path"], now=timezone.now())
        except (NameRefused, NameTaken, FileMoved, BundleArchived) as refused:
            form.add_error("path", str(refused))
        else:
            return redirect("studio:bundle", creator.slug, file.version.bundle_id)
    context = {"creator": creator, "file": file, "bundle": file.version.bundle, "form": form}
    return render(request, "studio/rename_file.html", context)


@of_creator(Right.PREPARE)
def remove_file(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """Says what removing means, and does it on the second press."""
    file = get_object_or_404(queries.files_in(creator), pk=pk)
    bundle = file.version.bundle
    if request.method == "POST":
        try:
            services.remove_file(file, now=timezone.now())
        except (FileMoved, BundleArchived) as refused:
            messages.error(request, str(refused))
        else:
            messages.success(request, _("“%(path)s” is out of the bundle.") % {"path": file.path})
        return redirect("studio:bundle", creator.slug, bundle.pk)
    context = {"creator": creator, "file": file, "bundle": bundle, "card": queries.bundle_cards([bundle])[0]}
    return render(request, "studio/remove_file.html", context)
