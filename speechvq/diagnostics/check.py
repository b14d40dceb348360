"""One finding of the doctor."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Status(Enum):
    """How a check ended."""

    OK = "ok"
    """There, and it works."""
    OPTIONAL = "optional"
    """Missing or small; only what `purpose` names suffers."""
    MISSING = "missing"
    """Missing or broken, and needed: the doctor leaves with exit code 2."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """What was looked for, what was found, and how to mend it.

    Args:
        name: What was looked for.
        purpose: What it is needed for.
        status: How the check ended.
        found: The version, the place or the size that was found, or what is wrong.
        remedy: The command that mends it; None where nothing needs mending.
    """

    name: str
    purpose: str
    status: Status
    found: str
    remedy: str | None = None

    def to_json(self) -> dict[str, str | None]:
        """Returns the finding as plain JSON values."""
        return {
            "name": self.name,
            "purpose": self.purpose,
            "status": self.status.value,
            "found": self.found,
            "remedy": self.remedy,
        }
