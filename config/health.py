"""Is this process alive, and can it serve? For load balancers and people at a terminal."""

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.core.cache import cache
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from config.celery import app
from library.storage import S3Storage, storage

log = logging.getLogger(__name__)


@login_not_required
@require_safe
@never_cache
def healthz(request: HttpRequest) -> HttpResponse:
    """The process lives. Asks nobody, so that a database on its knees does not get every web server shot."""
    return HttpResponse("ok\n", content_type="text/plain")


@login_not_required
@require_safe
@never_cache
def readyz(request: HttpRequest) -> JsonResponse:
    """What this server needs to be of use: 503 without it. What it can do without for a while is `degraded`."""
    needed = {"database": says(database), "migrations": says(migrations), "files": says(files)}
    wanted = {"cache": says(shared_cache), "broker": says(broker)}
    ready = all(word == "ok" for word in needed.values())
    answer = needed | {part: word if word == "ok" else "degraded" for part, word in wanted.items()}
    return JsonResponse({"ready": ready, **answer}, status=200 if ready else 503)


def says(probe: Callable[[], None]) -> str:
    """`ok` or `down`. Why, only the log says: a stranger can read this page."""
    try:
        probe()
    except Exception:
        log.warning("%s is not ready", probe.__name__, exc_info=True)
        return "down"
    return "ok"


def database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def migrations() -> None:
    executor = MigrationExecutor(connection)
    if waiting := executor.migration_plan(executor.loader.graph.leaf_nodes()):
        raise LookupError(f"{len(waiting)} migrations were not applied")


def files() -> None:
    place = storage()
    if isinstance(place, S3Storage):
        place.client.head_bucket(Bucket=place.bucket)
        return
    folder = Path(settings.MEDIA_ROOT)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"written")


def shared_cache() -> None:
    cache.set("readyz", "ok", 60)
    if cache.get("readyz") != "ok":
        raise LookupError("the cache forgot")


def broker() -> None:
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, timeout=2)
