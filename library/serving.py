"""A file's bytes over HTTP: ranges, validators, names, and nothing a browser would run.

RFC 9110 sections 13 and 14. Django's FileResponse answers no Range; a list of ranges is answered whole, as the
RFC allows, so ten thousand of them cost nothing.
"""

import re
from collections.abc import Callable, Iterator
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
    key, size = file.blob.storage_key, file.blob.size
    headers = {"Content-Type": kind, "Content-Disposition": content_disposition(name)}
    link = store.presigned_download(key, filename=name, content_type=kind)
    if link:
        # A link is signed for GET alone; and what names the bytes is the bucket's to say, who answers If-Range.
        if request.method == "HEAD":
            headers |= {"Content-Length": str(size), "Accept-Ranges": "bytes"}
            return _private(HttpResponse(headers=headers))
        return _private(HttpResponseRedirect(link))
    etag = f'"{file.blob.sha256}"'
    if settings.X_ACCEL_PREFIX and isinstance(store, DiskStorage):
        if etag in parse_etags(request.headers.get("If-None-Match", "")):
            return _private(HttpResponse(status=304, headers={"ETag": etag}))
        # nginx reads the range from the request, holds it against our validator, and sets the length itself.
        headers |= {
            "ETag": etag,
            "Accept-Ranges": "bytes",
            "X-Accel-Redirect": settings.X_ACCEL_PREFIX + quote(store.accelerated(key)),
        }
        return _private(HttpResponse(headers=headers))
    return _stretch_of(
        request, headers, etag=etag, size=size, read=lambda start, end: store.open(key, start, end)
    )


def serve_package(request: HttpRequest, package: Package) -> HttpResponseBase:
    """All of it as one ZIP, or a stretch of that; cut off if a stored file turns out to be broken."""
    archive = zip_of(package)
    headers = {
        "Content-Type": "application/zip",
        "Content-Disposition": content_disposition(f"{folder_name(package.title)}.zip"),
    }
    return _stretch_of(request, headers, etag=archive.etag, size=len(archive), read=archive.stretch)


def _stretch_of(
    request: HttpRequest,
    headers: dict[str, str],
    *,
    etag: str,
    size: int,
    read: Callable[[int, int], Iterator[bytes]],
) -> HttpResponseBase:
    """What was asked for of `size` bytes named by `etag`: all of it, one stretch, its headers, or that it is known."""
    if etag in parse_etags(request.headers.get("If-None-Match", "")):
        return _private(HttpResponse(status=304, headers={"ETag": etag}))
    try:
        stretch = None if _changed(request, etag) else asked_range(request.headers.get("Range", ""), size)
    except RangeOutside:
        return _private(HttpResponse(status=416, headers={"Content-Range": f"bytes */{size}"}))
    start, end = stretch or (0, size)
    headers |= {"Content-Length": str(end - start), "Accept-Ranges": "bytes", "ETag": etag}
    if stretch:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    status = 206 if stretch else 200
    if request.method == "HEAD":
        return _private(HttpResponse(status=status, headers=headers))
    return _private(StreamingHttpResponse(read(start, end), status=status, headers=headers))


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
