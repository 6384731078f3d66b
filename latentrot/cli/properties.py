"""The command `properties`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Properties"]


@dataclass(frozen=True)
class Properties:
    """List the properties that `edit --set` supports, with range and side effects."""

    model: str | None = None
    """a diffusers folder, a Hub id or a bundled model; by default faces64"""
    directions: Path | None = None
    """folder of property directions; by default that of the model"""

    def run(self) -> None:
        """Print the table of properties."""
        from latentrot.portrait.properties import property_table  # noqa: PLC0415
        from latentrot.rotators.properties import load_property_editor  # noqa: PLC0415

        print(property_table(load_property_editor(self.model, self.directions, "cpu")).to_string())
