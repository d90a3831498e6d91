"""A look-up by what may be None is an error: `filter(release=None)` means “of no release”, not “of this one”.

A mypy plugin, on top of django-stubs' own. It says so wherever a query is narrowed by a keyword whose value may be
None and is not written as `None`. Where None is meant as a value, the line says why beside its
`type: ignore[optional-lookup]`; if this plugin ever stopped looking, mypy would call those comments unused.
"""

from collections.abc import Callable
from typing import TypeVar

from mypy.errorcodes import ErrorCode
from mypy.plugin import FunctionContext, MethodContext, Plugin
from mypy.types import NoneType, Type, UnionType, get_proper_type
from mypy_django_plugin.main import NewSemanalDjangoPlugin

OPTIONAL_LOOKUP = ErrorCode("optional-lookup", "A query is narrowed by what may be None", "Django")
NARROWING = {"filter", "exclude", "get", "get_or_create", "update_or_create"}
_Context = TypeVar("_Context", MethodContext, FunctionContext)


class OptionalLookups(NewSemanalDjangoPlugin):
    def get_method_hook(self, fullname: str) -> Callable[[MethodContext], Type] | None:
        theirs = super().get_method_hook(fullname)
        owner, _, name = fullname.rpartition(".")
        if name in NARROWING and owner.endswith(("QuerySet", "Manager", "Manager2")):
            return _told(theirs)
        return theirs

    def get_function_hook(self, fullname: str) -> Callable[[FunctionContext], Type] | None:
        theirs = super().get_function_hook(fullname)
        return _told(theirs) if fullname == "django.db.models.query_utils.Q" else theirs


def _told(theirs: Callable[[_Context], Type] | None) -> Callable[[_Context], Type]:
    def hook(context: _Context) -> Type:
        for names, values, types in zip(context.arg_names, context.args, context.arg_types, strict=True):
            for name, value, found in zip(names, values, types, strict=True):
                if name and name != "defaults" and _may_be_none(found):
                    context.api.fail(f"“{name}” may be None here", value, code=OPTIONAL_LOOKUP)
        return theirs(context) if theirs else context.default_return_type

    return hook


def _may_be_none(found: Type) -> bool:
    found = get_proper_type(found)
    return isinstance(found, UnionType) and any(
        isinstance(get_proper_type(item), NoneType) for item in found.items
    )


def plugin(version: str) -> type[Plugin]:
    """What mypy calls."""
    return OptionalLookups
