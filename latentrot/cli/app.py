"""The command `app`: serve the web page."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from latentrot.cli.common import given_options
from latentrot.errors import LatentrotError
from latentrot.rotators.options import RotatorOptions
from latentrot.rotators.protocol import Rotator, capabilities_of
from latentrot.rotators.registry import options_of, rotator_names

if TYPE_CHECKING:
    from latentrot.rotators.properties import PropertyEditor

__all__ = ["App"]


@dataclass(frozen=True)
class App:
    """Open a page in the browser with sliders for a face."""

    host: str = "127.0.0.1"
    """address to listen on; the default accepts connections from this machine only"""
    port: int = 7860
    """TCP port"""
    model: str | None = None
    """a diffusers folder, a Hub id or a bundled model (faces64, heads64); by default faces64"""
    directions: Path | None = None
    """folder of directions files; by default directions/ in the model's folder, or in the current one"""
    device: str | None = None
    """cpu, cuda or cuda:N; by default cuda if available"""
    identity: Path | None = None
    """your weights of facenet-pytorch's InceptionResnetV1 (20180402-114759-vggface2.pt), for showing the identity similarity
    (cosine) to the source. A spin model that was trained with these weights uses them as its identity condition"""

    def run(self) -> None:
        """Load the model and serve the page until interrupted."""
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
        identity = None
        if self.identity is not None:
            from latentrot.devices import resolve_device  # noqa: PLC0415
            from latentrot.faces.identity import load_identity  # noqa: PLC0415

            identity = load_identity(self.identity, str(resolve_device(self.device)))
        rotators = self.rotators()
        # handle SIGTERM like Ctrl-C, so that visitors' files are deleted
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        say = "latentrot is at {} (press Ctrl-C to stop)".format
        editor = editor_of(next(iter(rotators.values())), self.device)
        serve(rotators, self.host, self.port, lambda url: print(say(url), flush=True), identity, self.device, editor)

    def rotators(self) -> dict[str, Rotator]:
        """Load the rotators of the page: the first with the given options, and all others whose model is available."""
        found: dict[str, Rotator] = {}
        for name in rotator_names():
            made_by = cast("type[RotatorOptions]", options_of(name))
            options = made_by() if found else made_by(**given_options(self, made_by))
            if made_by.offered and (options.is_available() or not found):
                found[name] = options.with_identity(self.identity).load(self.device)
        return found


def editor_of(rotator: Rotator, device: str | None) -> PropertyEditor | None:
    """The property editor for the rotator's model; None if the model has no property directions."""
    model = capabilities_of(rotator).property_model
    if model is None:
        return None
    from latentrot.rotators.properties import load_property_editor  # noqa: PLC0415

    return load_property_editor(model, None, device)
