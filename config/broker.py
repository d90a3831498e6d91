"""The broker where there is none: a wake-up is a file, and whoever takes the file away has it.

Not kombu's own `filesystem`: that one shows a message before it is written, and a worker that reads it in between dies.
"""

import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty
from typing import Any, cast

from kombu.transport import TRANSPORT_ALIASES, virtual
from kombu.utils.json import dumps, loads


class Channel(virtual.Channel):
    """Messages of a queue are files in `transport_options["folder"]`, whole from the first moment, oldest first."""

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        name = f"{time.time_ns():020d}-{secrets.token_hex(4)}.{queue}"
        unfinished = self._folder / f".{name}"
        unfinished.write_text(dumps(message))
        unfinished.rename(self._folder / name)

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        for path in sorted(self._waiting(queue)):
            try:
                words = path.read_text()
                path.unlink()
            except FileNotFoundError:
                # Another worker was quicker.
                continue
            message: dict[str, Any] = loads(words)
            return message
        raise Empty

    def _size(self, queue: str) -> int:
        return sum(1 for _ in self._waiting(queue))

    def _purge(self, queue: str) -> int:
        waiting = list(self._waiting(queue))
        for path in waiting:
            path.unlink(missing_ok=True)
        return len(waiting)

    def _waiting(self, queue: str) -> Iterator[Path]:
        return self._folder.glob(f"[0-9]*.{queue}")

    @property
    def _folder(self) -> Path:
        return Path(cast("Any", self.connection).client.transport_options["folder"])


class Transport(virtual.Transport):
    """`files://localhost`. No fanout: this broker serves the workers of one machine, and nobody broadcasts to them."""

    Channel = Channel
    implements = virtual.Transport.implements.extend(asynchronous=False, exchange_type=frozenset(["direct"]))
    # A listing of a nearly empty folder: often enough that nobody waits for a sign-in code.
    polling_interval = 0.2
    driver_type = driver_name = "files"

    def driver_version(self) -> str:
        return "1"


TRANSPORT_ALIASES["files"] = f"{__name__}:Transport"
