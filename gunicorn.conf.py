"""How the web is served: `gunicorn config.wsgi`. Found by name, so a guard in here cannot be forgotten."""

import os
import sys
from logging.config import dictConfig

from gunicorn.glogging import Logger

from config import settings
from config.logs import say_what_nobody_caught


class logger_class(Logger):  # noqa: N801 – the setting's name
    """Its own words, and the access log if you ask for one, go the way of all others: tickets are blacked out."""

    def setup(self, cfg):
        super().setup(cfg)
        dictConfig(settings.LOGGING)


bind = f"{settings.BIND}:{settings.PORT}"
# Downloads and uploads hold a thread each for minutes: 8 threads block behind 20 slow ones.
worker_class = "gthread"
workers = int(os.environ.get("WEB_CONCURRENCY", "1"))
threads = 64
graceful_timeout = 10
# A thread may be busy for hours; the process's heartbeat is another thread's.
timeout = 60
keepalive = 5
control_socket_disable = True
# Whether a proxy is believed is BEHIND_PROXY's word alone (config.proxy): gunicorn by itself would take https, and a
# path, from whoever sits on this machine.
secure_scheme_headers = {}
forwarder_headers = ""


def on_starting(server):
    """No server starts that would keep other people's mail to itself, wherever `--bind` put it."""
    # A socket file has a proxy before it, and that one talks to others.
    elsewhere = [at for at in server.cfg.address if isinstance(at, str) or at[0] not in {"127.0.0.1", "::1"}]
    if settings.MAILBOX and elsewhere:
        sys.exit(f"At {elsewhere} others could read the mailbox page: set EMAIL_URL, or listen on 127.0.0.1.")


def post_fork(server, worker):
    say_what_nobody_caught()
