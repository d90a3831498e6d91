import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

application = get_wsgi_application()

from config.mailbox import refuse_without_real_mail  # noqa: E402 – settings come first
from config.plain_request import PlainRequest  # noqa: E402

application.request_class = PlainRequest
refuse_without_real_mail()
