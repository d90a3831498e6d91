"""One Celery task a recipient: it renders the template, sends over its process's connection, updates its row."""

from celery import Celery
from django.conf import settings
from django.core.mail import EmailMultiAlternatives, get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.template import Context, Template
from django.utils import timezone

from benchmarks.rivals.pattern import Pattern

QUEUE = "rivals"
PAGE = 1_000

app = Celery("rivals")
app.conf.update(
    broker_url=settings.REDIS_URL,
    task_default_queue=QUEUE,
    task_ignore_result=True,
    worker_prefetch_multiplier=64,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)
# Its connection to the database is kept from task to task.
app.conf["CELERY_DB_REUSE_MAX"] = 1_000_000
# What a process makes once.
_kept: dict[str, tuple[Pattern, list[Template], BaseEmailBackend]] = {}


@app.task(name="rivals.send_one")
def send_one(pattern_path: str, mail_id: int) -> None:
    from benchmarks.rivals.models import Mail  # noqa: PLC0415 – Celery loads this module before Django is ready

    if pattern_path not in _kept:
        pattern = Pattern.read(pattern_path)
        templates = [Template(source) for source in (pattern.subject, pattern.text, pattern.html)]
        connection = get_connection()
        connection.open()
        _kept[pattern_path] = (pattern, templates, connection)
    pattern, templates, connection = _kept[pattern_path]
    row = Mail.objects.get(pk=mail_id)
    subject, text, html = (one.render(Context(pattern.values(row.address, row.name))) for one in templates)
    mail = EmailMultiAlternatives(
        subject=subject.strip(),
        body=text,
        from_email=pattern.sender,
        to=[row.address],
        reply_to=[pattern.reply_to],
        headers=pattern.headers_for(row.address),
        connection=connection,
    )
    mail.attach_alternative(html, "text/html")
    mail.send()
    Mail.objects.filter(pk=mail_id).update(state="sent", sent_at=timezone.now())
