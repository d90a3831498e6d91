"""How every form of the installation is drawn."""

from typing import Any

from django.forms.renderers import TemplatesSetting
from django.http import HttpRequest


class Renderer(TemplatesSetting):
    """With our templates, and without `maxlength`.

    With it a browser cuts what is pasted, without a word; we say that it is too long, and lose nothing.
    """

    def render(self, template_name: str, context: dict[str, Any], request: HttpRequest | None = None) -> str:
        context.get("widget", {}).get("attrs", {}).pop("maxlength", None)
        return str(super().render(template_name, context, request))
