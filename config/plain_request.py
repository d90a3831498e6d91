from typing import Any

from django.core.handlers.wsgi import WSGIRequest
from django.utils.http import parse_header_parameters


class PlainRequest(WSGIRequest):
    """A request in UTF-8, whatever codec its Content-Type names.

    Django reads the address by that codec while it makes the request, before any middleware could say otherwise: by
    `charset=base64`, or any other codec that is none of text, it breaks, and the server answers without a page.
    """

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        self.content_type, self.content_params = parse_header_parameters(meta.get("CONTENT_TYPE", ""))
