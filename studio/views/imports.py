from dataclasses import replace

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST
from django_htmx.http import HttpResponseClientRefresh

from groups import services, tasks
from groups.imports.formats import FORMATS
from groups.imports.reading import FileRefused
from groups.models import Creator, Group, Import
from groups.rights import Right
from groups.services.imports import (
    ChoiceRefused,
    ConsentMissing,
    ImportRunning,
    NotChecked,
    OlderThanLast,
    WordMissing,
)
from groups.services.memberships import GroupArchived
from studio import queries, words
from studio.forms.groups import PasteForm
from studio.forms.imports import ApplyForm, ColumnsForm, FileForm, MappingForm
from studio.scope import StudioRequest, of_creator, posted

ROWS_A_PAGE = 100


@of_creator(Right.PREPARE)
def open_import(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """A file comes in, is recognised, and waits for choices; a bad one is refused in words and not kept."""
    group = _group_of(creator, pk)
    form = FileForm(posted(request), request.FILES or None)
    if form.is_valid():
        try:
            run = services.open_import(group, form.cleaned_data["file"], by=request.user, now=timezone.now())
        except (FileRefused, GroupArchived) as refused:
            form.add_error("file", str(refused))
        else:
            return redirect("studio:import", creator.slug, run.pk)
    return render(request, "studio/open_import.html", {"creator": creator, "group": group, "form": form})


@of_creator(Right.PREPARE)
def paste_list(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """A pasted list goes the way of a file."""
    group = _group_of(creator, pk)
    form = PasteForm(posted(request))
    if form.is_valid():
        try:
            run = services.paste_list(group, form.cleaned_data["people"], by=request.user, now=timezone.now())
        except (FileRefused, GroupArchived) as refused:
            form.add_error("people", str(refused))
        else:
            return redirect("studio:import", creator.slug, run.pk)
    return render(request, "studio/paste_list.html", {"creator": creator, "group": group, "form": form})


@of_creator(Right.READ)
def import_run(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """Where an import stands: its choices, its dry run to be reviewed, the work under way, or what came of it."""
    run = _import_of(creator, pk)
    if request.htmx and run.state not in {Import.State.CHECKING, Import.State.APPLYING, Import.State.REFUSED}:
        # The work it was asking about is over: the whole page is another one now.
        return HttpResponseClientRefresh()
    if run.state == Import.State.OPENED:
        return redirect("studio:choose_mapping", creator.slug, run.pk)
    if run.state in {Import.State.CHECKED, Import.State.DONE}:
        return _review(request, creator, run)
    context = {"creator": creator, "run": run, "progress": queries.import_progress(run)}
    # While htmx asks again and again it gets the moving part only.
    page = "studio/import_progress.html" if request.htmx else "studio/import_underway.html"
    return render(request, page, context)


@of_creator(Right.PREPARE)
def choose_columns(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """The columns are read anew; the choices below them are guessed again."""
    run = _import_of(creator, pk)
    form = ColumnsForm(posted(request), import_run=run)
    if form.is_valid():
        try:
            services.choose_columns(run, form.columns)
        except (ChoiceRefused, NotChecked) as refused:
            form.add_error(None, str(refused))
        else:
            return redirect("studio:choose_mapping", creator.slug, run.pk)
    return _choose(request, creator, run, columns=form)


@of_creator(Right.PREPARE)
def choose_mapping(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """Who is a member and where each tier goes; then the dry run is asked for."""
    run = _import_of(creator, pk)
    form = MappingForm(posted(request), import_run=run)
    if form.is_valid():
        try:
            as_of, now = form.cleaned_data["as_of"], timezone.now()
            own = services.add_sub_groups(run, form.own, now=now)
            mapping = replace(form.chosen, tiers={**form.chosen.tiers, **own})
            services.choose_mapping(run, mapping, as_of=as_of, now=now)
        except (ChoiceRefused, NotChecked) as refused:
            form.add_error(None, str(refused))
        else:
            tasks.wake()
            return redirect("studio:import", creator.slug, run.pk)
    return _choose(request, creator, run, mapping=form)


@of_creator(Right.PREPARE)
@require_POST
def apply_import(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """The reviewed dry run is made true, by a worker."""
    run = _import_of(creator, pk)
    form = ApplyForm(request.POST, import_run=run, summary=services.summarise(run))
    if not form.is_valid():
        return _review(request, creator, run, form=form)
    try:
        services.request_apply(
            run,
            consent=form.cleaned_data["consent"],
            gone_at=form.gone_at,
            typed=form.cleaned_data.get("typed", ""),
            by=request.user,
            now=timezone.now(),
        )
    except WordMissing as refused:
        form.add_error("typed", str(refused))
        return _review(request, creator, run, form=form)
    except (NotChecked, ConsentMissing, OlderThanLast, ImportRunning) as refused:
        messages.error(request, str(refused))
    else:
        tasks.wake()
    return redirect("studio:import", creator.slug, run.pk)


def _group_of(creator: Creator, pk: int) -> Group:
    return get_object_or_404(creator.groups.live().select_related("parent"), pk=pk)


def _import_of(creator: Creator, pk: int) -> Import:
    runs = Import.objects.filter(group__creator=creator).select_related("group")
    return get_object_or_404(runs, pk=pk)


def _choose(
    request: StudioRequest,
    creator: Creator,
    run: Import,
    *,
    columns: ColumnsForm | None = None,
    mapping: MappingForm | None = None,
) -> HttpResponse:
    if not run.stored_as:
        # There is nothing to choose from any more.
        return redirect("studio:import", creator.slug, run.pk)
    context = {
        "creator": creator,
        "run": run,
        "format": FORMATS[run.format].label,
        "preview": queries.import_preview(run),
        "columns": columns or ColumnsForm(import_run=run),
        "mapping": mapping or MappingForm(import_run=run),
        "where": words.OF_TIERS[Group.Kind(run.group.kind)],
    }
    return render(request, "studio/choose_mapping.html", context)


def _review(
    request: StudioRequest, creator: Creator, run: Import, *, form: ApplyForm | None = None
) -> HttpResponse:
    summary = services.summarise(run)
    parts = queries.import_parts(summary)
    part = request.GET.get("part", "")
    if part not in parts:
        part = next(iter(parts), "")
    context = {
        "creator": creator,
        "run": run,
        "summary": summary,
        "tabs": words.of_import_parts(parts, part),
        "part": part,
        "page": queries.import_page(run, part, request.GET, size=ROWS_A_PAGE),
        "sentences": words.of_importing(queries.import_gains(run, summary)),
        "result": words.of_result(summary),
        "opted_out": words.of_opted_out(summary),
        "form": form or ApplyForm(import_run=run, summary=summary),
    }
    return render(request, "studio/import.html", context)
