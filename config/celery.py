"""Celery only wakes a worker. The rows are the queue: a task carries an id, may run twice, may be lost."""

import logging
import os
from typing import Any

from celery import Celery
from celery.signals import setup_logging
from django.conf import settings
from django.utils.log import configure_logging

import config.broker
import config.sweeping  # noqa: F401 – makes every worker look for itself
from config.logs import say_what_nobody_caught

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("largesse")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@setup_logging.connect
def log_like_the_rest(loglevel: int | None = None, **_kwargs: Any) -> None:
    """Celery brings no handlers of its own, which would black nothing out; how much is said is its command line's."""
    configure_logging(settings.LOGGING_CONFIG, settings.LOGGING)
    if loglevel is not None:
        logging.getLogger().setLevel(loglevel)
    say_what_nobody_caught()
