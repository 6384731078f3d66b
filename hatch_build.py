"""What a wheel holds and says of it: with the networks learned from research-only photographs, or without.

`LATENTROT_WITHOUT_RESEARCH_WEIGHTS=1` leaves them out; the licence expression and the licence files follow.
"""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

WITHOUT = "LATENTROT_WITHOUT_RESEARCH_WEIGHTS"
RESEARCH = "LicenseRef-latentrot-research-only"
#: the last two are the notices of the face model, which heads64 and head were made from, and of the face detector; both MIT
NOTICES = ("LICENSE", "LICENSES/MIT.txt", "LICENSES/MIT-ICT-FaceKit.txt", "LICENSES/MIT-facenet-pytorch.txt")


def left_out() -> bool:
    """Whether the research-only networks are to be left out."""
    return os.environ.get(WITHOUT, "") not in ("", "0")


def research_only(root: Path) -> tuple[str, ...]:
    """The folders in question, as the package itself names them."""
    tree = ast.parse((root / "latentrot" / "bundles.py").read_text(encoding="utf-8"))
    values = (n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "RESEARCH_ONLY")
    return ast.literal_eval(next(values))


class LicenceHook(MetadataHookInterface):
    """The licence expression and files of what is built."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Fill in `license` and `license-files`."""
        metadata["license"] = "MIT" if left_out() else f"MIT AND {RESEARCH}"
        metadata["license-files"] = [*NOTICES, *([] if left_out() else [f"LICENSES/{RESEARCH}.txt"])]


class WeightsHook(BuildHookInterface):
    """Leaves the research-only networks out where asked to."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Exclude their folders; they are looked for by name when the package runs."""
        if left_out() and version != "editable":
            folders = [f"/latentrot/bundled/{name}" for name in research_only(Path(self.root))]
            self.build_config.target_config.setdefault("exclude", []).extend(folders)
