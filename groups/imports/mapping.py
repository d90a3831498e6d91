"""What a person chooses for an import: which columns, which statuses, which tier goes where."""

from collections.abc import Mapping as Dict
from dataclasses import dataclass, field
from typing import Any, Self

from groups.imports.formats import Field


@dataclass(frozen=True, slots=True)
class Mapping:
    """The choices for one import; kept with it as JSON, and the start of the next one's.

    `statuses` and the keys of `tiers` are in `formats.plain()` spelling, `""` standing for an empty cell. Without
    a status column everybody listed is a member; without a tier column everybody goes to `target`.
    A tier that is missing from `tiers` is not mapped: its people are shown and skipped.
    """

    columns: Dict[Field, str]
    target: int
    statuses: frozenset[str] = frozenset()
    tiers: Dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "columns": dict(self.columns),
            "target": self.target,
            "statuses": sorted(self.statuses),
            "tiers": dict(self.tiers),
        }

    @classmethod
    def from_json(cls, kept: Dict[str, Any]) -> Self:
        return cls(
            columns={Field(name): column for name, column in kept["columns"].items()},
            target=kept["target"],
            statuses=frozenset(kept["statuses"]),
            tiers=dict(kept["tiers"]),
        )
