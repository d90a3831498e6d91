"""Every lock that tests take is looked at: one over several joined tables names the one it means."""

import re
from collections.abc import Callable
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

_LOCK = re.compile(r"\bFOR (NO KEY UPDATE|UPDATE|KEY SHARE|SHARE)\b(?P<rest>[^()]*)$")


class LocksTooMuch(AssertionError):
    """A statement locks the rows of every table it joins, the parents of half the house among them."""


def locks_too_much(sql: str) -> bool:
    """Whether `sql` joins tables and locks them all: without OF each joined row is locked with the one meant."""
    found = _LOCK.search(sql)
    if found is None or " OF " in found["rest"]:
        return False
    outside = _without_parentheses(sql[: found.start()])
    tables = outside.partition(" FROM ")[2].partition(" WHERE ")[0]
    return " JOIN " in tables or "," in tables


def _without_parentheses(sql: str) -> str:
    """What is not in a subquery: a lock does not reach into one."""
    depth, kept = 0, []
    for letter in sql:
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            kept.append(letter)
    return "".join(kept)


def refuse_wide_locks(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
    if " FOR " in sql and locks_too_much(sql):
        raise LocksTooMuch(sql)
    return execute(sql, params, many, context)


def watch_locks(connection: BaseDatabaseWrapper, **_kwargs: Any) -> None:
    """For every connection that is made, those of threads too."""
    if refuse_wide_locks not in connection.execute_wrappers:
        connection.execute_wrappers.append(refuse_wide_locks)
