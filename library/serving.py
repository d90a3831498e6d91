"""A file's bytes over HTTP: ranges, validators, names, and nothing a browser would run.

RFC 9110 sections 13 and 14. Django's FileResponse answers no Range; a list of ranges is answered whole, as the
RFC allows, so ten thousand of them cost nothing.
"""

import re
from pathlib import PurePosixPath
from urllib.parse import quote

from django.conf import settings
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.utils.http import parse_etags

from library.archives import zip_of
from library.headers import content_disposition
from library.kinds import content_type
from library.models import Bundle, File
from library.names import folder_name
from library.services.downloads import Package
from library.storage import DiskStorage, storage

RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})")


class RangeOutside(Exception):
    """The range begins past the end of the file."""


def serve_file(request: HttpRequest, file: File) -> HttpResponseBase:
    """The file, or the stretch of it that was asked for. From the bucket itself if the store signs links."""
    name, kind = PurePosixPath(file.path).name, content_type(file.kind)
    store = storage()
    link = store.presigned_download(file.blob.storage_key, filename=name, content_type=kind)
    if link:
        return _private(HttpResponseRedirect(link))
    etag, size = f'"{file.blob.sha256}"', file.blob.size
    if etag in parse_etags(request.headers.get("If-None-Match", "")):
        return _private(HttpResponse(status=304, headers={"ETag": etag}))
    try:
        stretch = None if _changed(request, etag) else asked_range(request.headers.get("Range", ""), size)
    except RangeOutside:
        return _private(HttpResponse(status=416, headers={"Content-Range": f"bytes */{size}"}))
    start, end = stretch or (0, size)
    headers = {
        "Content-Type": kind,
        "Content-Length": str(end - start),
        "Content-Disposition": content_disposition(name),
        "Accept-Ranges": "bytes",
        "ETag": etag,
    }
    if stretch:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    if settings.X_ACCEL_PREFIX and isinstance(store, DiskStorage):
        # nginx reads the range from the request again and sets the length itself.
        del headers["Content-Length"]
        headers.pop("Content-Range", None)
        headers["X-Accel-Redirect"] = settings.X_ACCEL_PREFIX + quote(
            store.accelerated(file.blob.storage_key)
        )
        return _private(HttpResponse(headers=headers))
    status = 206 if stretch else 200
    if request.method == "HEAD":
        return _private(HttpResponse(status=status, headers=headers))
    bytes_ = store.open(file.blob.storage_key, start, end)
    return _private(StreamingHttpResponse(bytes_, status=status, headers=headers))


def serve_package(request: HttpRequest, package: Package) -> HttpResponseBase:
    """All of it as one ZIP with its length told before; cut off if a stored file turns out to be broken."""
    archive = zip_of(package)
    headers = {
        "Content-Type": "application/zip",
        "Content-Length": str(len(archive)),
        "Content-Disposition": content_disposition(f"{folder_name(package.title)}.zip"),
    }
    if request.method == "HEAD":
        return _private(HttpResponse(headers=headers))
    return _private(StreamingHttpResponse(archive, headers=headers))


def serve_cover(bundle: Bundle) -> HttpResponseBase:
    """The bundle's picture, whoever asks: the caller has decided that they may. Its address changes with it."""
    with bundle.cover.open("rb") as picture:
        response = HttpResponse(picture.read(), content_type="image/webp")
    response["Cache-Control"] = "private, max-age=604800, immutable"
    response["X-Content-Type-Options"] = "nosniff"
    return response


def is_first_request(request: HttpRequest) -> bool:
    """Whether a download begins: neither a look at the headers nor the going on with one that broke off."""
    return request.method == "GET" and not re.match(r"bytes=(0*[1-9]|-)", request.headers.get("Range", ""))


def asked_range(header: str, size: int) -> tuple[int, int] | None:
    """The one range asked for as (start, end before), None if the whole is to be sent. Raises RangeOutside."""
    match = RANGE.fullmatch(header.strip())
    if not match or match.group(1, 2) == ("", ""):
        return None
    first, last = match.group(1, 2)
    if not first:
        if int(last) == 0:
            raise RangeOutside
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        raise RangeOutside
    return int(first), min(size, int(last) + 1) if last else size


def _changed(request: HttpRequest, etag: str) -> bool:
    """Whether what the browser has a part of (If-Range) is no longer what it is: then it gets the whole."""
    known = request.headers.get("If-Range")
    return known is not None and known.strip() != etag


def _private(response: HttpResponseBase) -> HttpResponseBase:
    """For this person, now: caches ask again, and nothing in it may run or be taken for another type."""
    response["Cache-Control"] = "private, no-cache"
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "sandbox"
    return response
