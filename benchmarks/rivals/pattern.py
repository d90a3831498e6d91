"""The very mail that Largesse sends, as a Django template, so that every side has the same bytes to make and to send."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

SLOTS = ("name", "address", "group", "redeem_url", "preferences_url", "unsubscribe_url", "why_url")
# As long as a signed one.
TOKEN = "t" * 60


@dataclass(frozen=True)
class Pattern:
    """Django templates for the mail's parts; the headers are the same for all but the link that unsubscribes."""

    subject: str
    text: str
    html: str
    sender: str
    reply_to: str
    headers: dict[str, str]
    site: str

    @classmethod
    def read(cls, path: str) -> Self:
        return cls(**json.loads(Path(path).read_text()))

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    def values(self, address: str, name: str) -> dict[str, str]:
        """What the templates are filled with for one recipient."""
        links = {slot: f"{self.site}/{TOKEN}/{address}" for slot in SLOTS if slot.endswith("_url")}
        return {"name": name.partition(" ")[0], "address": address, "group": "Patrons", **links}

    def headers_for(self, address: str) -> dict[str, str]:
        return {**self.headers, "List-Unsubscribe": f"<{self.site}/{TOKEN}/{address}>"}
