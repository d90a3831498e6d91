"""Files on their way into a bundle, over HTTP: S3's multipart upload in five small requests, and a plain form.

    POST …/bundles/7/uploads/        {"path", "size"}  → 201 {"upload", "path", "part_size", "parts"}
    PUT  …/uploads/9/parts/1/        the part's bytes, streamed; Content-Digest is held against them → 200
    GET  …/uploads/9/                → 200 {"state", "reason", "warning", "parts": [numbers that arrived]}
    POST …/uploads/9/complete/       → 202, then GET tells when the check is done; 409 {"missing": [numbers]}
    POST …/uploads/9/cancel/         → 200 (a browser without scripts is sent back to the bundle)
    POST …/bundles/7/files/          a form with files, for browsers without scripts

Refusals are `{"error": a sentence, "retry": whether the same request may do better later}`. Scripts send the
CSRF token as `X-CSRFToken`.
"""

import base64
import json
import re
from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import TemporaryFileUploadHandler
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_POST, require_safe

from accounts.models import User
from groups.models import Creator
from groups.rights import Right
from library import services, tasks
from library.kinds import FileRefused
from library.models import Bundle, Upload, UploadQuerySet
from library.names import NameRefused
from library.storage import PartCutShort, PartDamaged, PartOvertaken, StorageDown
from studio.scope import StudioRequest, of_creator

DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")


class BadRequest(Exception):
    """A request no client of ours makes."""


REFUSALS = (
    NameRefused,
    FileRefused,
    services.NameTaken,
    services.SizeRefused,
    services.BundleArchived,
    services.QuotaReached,
    services.WrongPart,
)
WORTH_A_RETRY = (PartCutShort, PartDamaged, PartOvertaken, StorageDown)
STATUSES: dict[type[Exception], int] = {
    BadRequest: 400,
    PermissionDenied: 403,
    services.PartsMissing: 409,
    PartCutShort: 409,
    PartDamaged: 409,
    PartOvertaken: 409,
    services.UploadOver: 410,
    **dict.fromkeys(REFUSALS, 422),
    StorageDown: 503,
}


def in_json(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """What the services and a missing right raise becomes a status and a sentence; what is worth repeating says so."""

    @wraps(view)
    def answered(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        try:
            return view(request, *args, **kwargs)
        except tuple(STATUSES) as error:
            answer: dict[str, object] = {"error": str(error), "retry": isinstance(error, WORTH_A_RETRY)}
            if isinstance(error, services.PartsMissing):
                answer["missing"] = error.numbers
            status = next(status for kind, status in STATUSES.items() if isinstance(error, kind))
            return JsonResponse(answer, status=status)

    return answered


@in_json
@of_creator(Right.PREPARE)
@require_POST
def create_upload(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    bundle = get_object_or_404(creator.bundles, pk=pk)
    name, size = _wish(request)
    upload = services.open_upload(bundle, name, size, by=request.user, now=timezone.now())
    answer = {
        "upload": upload.pk,
        "path": upload.path,
        "part_size": upload.part_size,
        "parts": upload.part_count,
    }
    return JsonResponse(answer, status=201)


@in_json
@of_creator(Right.PREPARE)
def put_part(request: StudioRequest, creator: Creator, pk: int, number: int) -> HttpResponse:
    """The body is read as a stream, never as `request.body`: a part is larger than a server should hold."""
    if request.method != "PUT":
        return HttpResponse(status=405, headers={"Allow": "PUT"})
    upload = get_object_or_404(_uploads(creator), pk=pk)
    length = request.META.get("CONTENT_LENGTH") or ""
    if not (length.isascii() and length.isdigit()):
        return JsonResponse({"error": _("The length of the part is missing."), "retry": False}, status=411)
    services.put_part(
        upload, number, request, int(length), sha256=_announced_digest(request), now=timezone.now()
    )
    return JsonResponse({"number": number})


@in_json
@of_creator(Right.PREPARE)
@require_safe
def upload_state(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    upload = get_object_or_404(_uploads(creator).select_related("file"), pk=pk)
    answer = {
        "state": upload.state,
        "reason": upload.reason,
        "warning": upload.file.warning if upload.file else "",
        "parts": list(upload.parts.values_list("number", flat=True)),
    }
    return JsonResponse(answer)


@in_json
@of_creator(Right.PREPARE)
@require_POST
def complete_upload(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    upload = get_object_or_404(_uploads(creator), pk=pk)
    services.complete_upload(upload, now=timezone.now())
    tasks.wake(upload)
    return JsonResponse({}, status=202)


@in_json
@of_creator(Right.PREPARE)
@require_POST
def cancel_upload(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    upload = get_object_or_404(_uploads(creator), pk=pk)
    try:
        services.cancel_upload(upload, now=timezone.now())
    except services.UploadOver:
        if request.accepts("text/html"):
            messages.info(request, _("“%(path)s” has arrived already.") % {"path": upload.path})
            return redirect("studio:bundle", creator.slug, upload.bundle_id)
        raise
    if request.accepts("text/html"):
        return redirect("studio:bundle", creator.slug, upload.bundle_id)
    return JsonResponse({})


@csrf_exempt
@of_creator(Right.PREPARE)
def add_files(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """A form with files. They go to disk as they come: to be said before anybody, CSRF too, reads the form."""
    request.upload_handlers = [TemporaryFileUploadHandler(request)]
    return _add_files(request, creator, pk)


@csrf_protect
@require_POST
def _add_files(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    bundle = get_object_or_404(creator.bundles, pk=pk)
    arrived = 0
    for file in request.FILES.getlist("files"):
        try:
            tasks.wake(_take_whole(bundle, cast("UploadedFile[bytes]", file), by=request.user))
            arrived += 1
        except (*REFUSALS, StorageDown) as refusal:
            messages.error(request, str(refusal))
    if arrived:
        text = ngettext(
            "%(n)d file arrived and is being checked.", "%(n)d files arrived and are being checked.", arrived
        )
        messages.success(request, text % {"n": arrived})
    elif not request.FILES:
        messages.error(request, _("Choose at least one file."))
    return redirect("studio:bundle", creator.slug, bundle.pk)


def _take_whole(bundle: Bundle, file: "UploadedFile[bytes]", *, by: User) -> Upload:
    """The parts of a file that is here already, on this server's disk."""
    now = timezone.now()
    upload = services.open_upload(bundle, file.name or "", file.size or 0, by=by, now=now)
    for number in range(1, upload.part_count + 1):
        services.put_part(upload, number, cast("Any", file), upload.size_of_part(number), now=now)
    services.complete_upload(upload, now=now)
    return upload


def _uploads(creator: Creator) -> UploadQuerySet:
    return Upload.objects.filter(bundle__creator=creator)


def _wish(request: HttpRequest) -> tuple[str, int]:
    try:
        wish = json.loads(request.body)
        name, size = wish["path"], wish["size"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadRequest(_("Say which file, and how large it is.")) from error
    if not isinstance(name, str) or not isinstance(size, int):
        raise BadRequest(_("Say which file, and how large it is."))
    return name, size


def _announced_digest(request: HttpRequest) -> str:
    """The SHA-256 of `Content-Digest` (RFC 9530) in hex, empty if the sender computed none."""
    header = request.headers.get("Content-Digest", "").strip()
    if not header:
        return ""
    match = DIGEST.fullmatch(header)
    if match is None:
        raise BadRequest(_("The checksum of the part cannot be read."))
    return base64.b64decode(match.group(1)).hex()


urlpatterns = [
    path("<slug:slug>/bundles/<int:pk>/uploads/", create_upload, name="create_upload"),
    path("<slug:slug>/bundles/<int:pk>/files/", add_files, name="add_files"),
    path("<slug:slug>/uploads/<int:pk>/", upload_state, name="upload_state"),
    path("<slug:slug>/uploads/<int:pk>/parts/<int:number>/", put_part, name="put_part"),
    path("<slug:slug>/uploads/<int:pk>/complete/", complete_upload, name="complete_upload"),
    path("<slug:slug>/uploads/<int:pk>/cancel/", cancel_upload, name="cancel_upload"),
]
