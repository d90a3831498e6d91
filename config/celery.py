"""Celery only wakes a worker. The rows are the queue: a task carries an id, may run twice, may be lost."""

import os
from typing import Any

from celery import Celery
from celery.signals import worker_ready

import config.broker  # noqa: F401 – makes files:// known

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("largesse")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_ready.connect
def sweep_at_once(**_kwargs: Any) -> None:
    """A worker that comes up looks for what the one before it left, without waiting for beat."""
    for name in app.conf.beat_schedule:
        app.send_task(name)
