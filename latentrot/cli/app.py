"""The page: `app`."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from latentrot.errors import LatentrotError

if TYPE_CHECKING:
    from latentrot.rotators.protocol import Rotator

__all__ = ["App"]


@dataclass(frozen=True)
class App:
    """Open a page in the browser on which a face turns as a slider is dragged."""

    host: str = "127.0.0.1"
    """address to listen on; the default is reached from this machine alone, others by whoever reaches it"""
    port: int = 7860
    """TCP port"""
    model: str | None = None
    """a diffusers folder, a Hub id or a bundled model (faces64, heads64); by default faces64"""
    directions: Path | None = None
    """folder of directions files; by default those in the model's own folder, else directions/"""
    device: str | None = None
    """cpu, cuda or cuda:N; by default cuda where there is one"""
    identity: Path | None = None
    """weights of facenet-pytorch's InceptionResnetV1 (20180402-114759-vggface2.pt), which you have: how much of the person
    stays is then shown, as the cosine of the turned face to the source (1: the same); by default it is not told. A spin model
    that was trained with these weights is told who it is by them"""

    def run(self) -> None:
        """Load the model, serve until interrupted."""
        if not 1 <= self.port <= 65535:
            raise LatentrotError(f"--port {self.port}: expected 1 to 65535")
        try:
            from latentrot.app.page import serve  # noqa: PLC0415
        except ModuleNotFoundError as error:
            if error.name != "gradio":
                raise
            raise LatentrotError(
                "the page needs gradio, which is not installed: pip install 'latentrot[page]'"
            ) from error
        from latentrot.rotators.latent import load_latent_rotator  # noqa: PLC0415

        identity = None
        if self.identity is not None:
            from latentrot.devices import resolve_device  # noqa: PLC0415
            from latentrot.faces.identity import load_identity  # noqa: PLC0415

            identity = load_identity(self.identity, str(resolve_device(self.device)))
        rotator = load_latent_rotator(self.model, self.directions, self.device)
        others = self.others()
        # a service is stopped by SIGTERM: leave the way Ctrl-C does, so that what visitors gave is removed
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        say = "latentrot is at {} (Ctrl-C ends it)".format
        serve(rotator, self.host, self.port, lambda url: print(say(url), flush=True), identity, others)

    def others(self) -> dict[str, Rotator]:
        """Rotators with models of their own that come along, by name."""
        from latentrot.bundles import bundled_part, missing_bundle  # noqa: PLC0415
        from latentrot.rotators.pair.model import DEFAULT as PAIR  # noqa: PLC0415
        from latentrot.rotators.pair.rotator import load_pair_rotator  # noqa: PLC0415
        from latentrot.rotators.spin.model import DEFAULT as SPIN  # noqa: PLC0415
        from latentrot.rotators.spin.model import takes_identity  # noqa: PLC0415
        from latentrot.rotators.spin.rotator import load_spin_rotator  # noqa: PLC0415

        found: dict[str, Rotator] = {} if missing_bundle(PAIR) else {"pair": load_pair_rotator(device=self.device)}
        if bundled_part(SPIN).is_dir():
            identity = self.identity if takes_identity() else None
            found["spin"] = load_spin_rotator(device=self.device, identity=identity)
        return found
