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
        None, "folder of directions files; by default those in the model's own folder, else directions/"
    )
    fast: bool = option(False, "trust the average calibration instead of measuring the step on the image itself")
    cache: bool = option(
        False,
        "keep the latent of the image in ~/.cache/latentrot (it decodes into the image; at most 32 MB, readable by you "
        "alone), so that the next edit of the same image with --cache starts from it; delete the folder to forget",
    )
    limit: float | None = option(
        None,
        "max step size, in steps by which the average image has turned nearly as far as it does; beyond the default an "
        "image turns little further and resembles the person less",
    )
    carry: bool = option(
        True,
        "warp the pixels of the image to where the walk moves the face, if the directions were calibrated so; "
        "--no-carry: show the walk as the model decodes it",
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
