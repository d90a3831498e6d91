"""What this installation keeps of its own: a folder that only its user may enter, and secrets made once."""

import contextlib
import os
import secrets
from pathlib import Path


def private_folder(path: Path) -> Path:
    """`path`, made if it is not there, entered by nobody else: keys, mails, members and files lie in it.

    Somebody else's folder (a volume's root) stays as it is.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_uid == os.geteuid() and path.stat().st_mode & 0o077:
        path.chmod(0o700)
    return path


def kept_secret(name: str, given: str, folder: Path) -> str:
    """What was `given`, or a secret made once and kept in `folder` with mode 600."""
    if given:
        return given
    path = folder / name.lower()
    if not path.exists():
        fresh = path.with_suffix(f".{secrets.token_hex(4)}")
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_urlsafe(48))
        # Two processes may start at once: the link decides whose secret stays.
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(fresh)
        fresh.unlink()
    return path.read_text().strip()
