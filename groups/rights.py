"""What the staff of a creator may do, by their role (P2)."""

from enum import Enum
from typing import Final


class Right(Enum):
    """One thing that a page or a service may ask for. Who has none of them is no staff."""

    # Look at everything: people, files, drafts, releases, numbers.
    READ = "read"
    # Bring in and change what a release is made of: members, bundles, drafts, tests to oneself.
    PREPARE = "prepare"
    # Give and tell, stop a send, take back what was given, write to somebody at another address.
    SEND = "send"
    # Change what the studio is: its name, where answers go, how often its groups are written to.
    RUN = "run"


RIGHTS: Final = {
    "owner": frozenset(Right),
    "manager": frozenset({Right.READ, Right.PREPARE, Right.SEND}),
    "helper": frozenset({Right.READ, Right.PREPARE}),
    "viewer": frozenset({Right.READ}),
}
