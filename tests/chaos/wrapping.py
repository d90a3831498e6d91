"""The product's functions, wrapped from outside in a process of a chaos run: the product knows nothing of it."""

import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

ROOMS = ("config", "studio", "messaging", "distribution", "library", "groups", "accounts", "rows")


def swap(old: Any, new: Any) -> None:
    """Whoever of the product calls `old` by a name of its own calls `new`."""
    for module in [module for name, module in sys.modules.items() if name.partition(".")[0] in ROOMS]:
        for name, value in list(vars(module).items()):
            if value is old:
                setattr(module, name, new)


def in_pages(function: Callable[..., Any]) -> Callable[..., Any]:
    """As many pages as a big run has, whatever the size of this one."""
    page = int(os.environ.get("CHAOS_PAGE", "10000"))

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **{"page": page, **kwargs})

    swap(function, wrapped)
    return wrapped
