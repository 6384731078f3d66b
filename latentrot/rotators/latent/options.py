"""Options of the rotator `latent`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from latentrot.bundles import direction_files
from latentrot.errors import LatentrotError
from latentrot.rotators.options import RotatorOptions, option

if TYPE_CHECKING:
    from latentrot.rotators.latent.rotator import LatentRotator

__all__ = ["LatentOptions"]


@dataclass(frozen=True)
class LatentOptions(RotatorOptions):
    """See the help of each field."""

    model: str | None = option(
        None, "a diffusers folder, a Hub id or a bundled model (faces64, heads64); by default faces64"
    )
    directions: Path | None = option(
        None, "folder of directions files; by default directions/ in the model's folder, or in the current one"
    )
    fast: bool = option(False, "use the average calibration instead of measuring the step size on the image")
    cache: bool = option(
        False,
        "keep the latent of the image in ~/.cache/latentrot for the next edit of it with --cache (a latent decodes into its "
        "image; at most 32 MB, readable by you only); delete the folder to clear it",
    )
    limit: float | None = option(
        None,
        "max step size, relative to the one at which rotations of the average image saturate; beyond the default an "
        "image rotates little further and resembles the person less",
    )
    carry: bool = option(
        True,
        "warp the pixels of the image by the motion of the face, if the directions were calibrated so; "
        "--no-carry: show the decoded walk",
    )

    reifies: ClassVar[bool] = True
    takes_loaded_model: ClassVar[bool] = True

    def check(self) -> None:
        """See `RotatorOptions.check`."""
        from latentrot.diffusion.folder import local_folder  # noqa: PLC0415

        if self.limit is not None and not 0 < self.limit < float("inf"):
            raise LatentrotError(f"--limit {self.limit}: expected above 0, such as 1.5")
        if self.model is not None:
            local_folder(self.model)
        if self.directions is not None:
            direction_files(self.directions)

    def load(self, device: str | None = None, dtype: str | None = None) -> LatentRotator:
        """See `RotatorOptions.load`."""
        from latentrot.rotators.latent.rotator import load_latent_rotator  # noqa: PLC0415

        return load_latent_rotator(
            self.model, self.directions, device, dtype, measure=not self.fast, cache=self.cache,
            carry=None if self.carry else False, **({} if self.limit is None else {"limit": self.limit}),
        )  # fmt: skip
