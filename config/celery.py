"""Celery only wakes a worker. The rows are the queue: a task carries an id, may run twice, may be lost."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("largesse")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
