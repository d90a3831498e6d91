from django.apps import AppConfig
from django.core.checks import register


class ConfigConfig(AppConfig):
    name = "config"

    def ready(self) -> None:
        from config.mailbox import check_mail  # noqa: PLC0415 – views need the app registry

        register(check_mail)
