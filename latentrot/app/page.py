"""The page: a photograph in, a slider, the turned face at once. Every number comes from the library.

Everything a visitor gives or gets lies in a folder of their own, which goes when the page is closed; all of them lie in
one temporary folder, which goes with the server.
"""

from __future__ import annotations

import functools
import logging
import os
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.themes import Default, Font

from latentrot.app.layout import STYLE, ResultColumn, SourceColumn, Updates, problem, sliders_of, value_list, warning
from latentrot.bundles import PORTRAIT
from latentrot.data.animation import write_animation
from latentrot.data.images import write_image
from latentrot.directions.properties import Wanted
from latentrot.errors import LatentrotError, one_line
from latentrot.faces.identity import IdentityNetwork
from latentrot.portrait.interactive import (
    MAX_FACES,
    MAX_SIDE,
    MAX_TURN,
    RotatedPhotograph,
    Subject,
    animation,
    close_up,
    face_strip,
    identity_similarity,
    mark_faces,
    open_shrunk,
    provenance,
    rotate_subject,
    sweep_of,
    take_face,
)
from latentrot.portrait.portrait import Portrait
from latentrot.rotators.properties import PropertyEditor
from latentrot.rotators.protocol import Rotator, capabilities_of

__all__ = ["Page", "serve"]

#: largest file taken
MAX_UPLOAD = "25mb"
#: so many visitors are remembered; whoever was idle longest is asked for the image again
MAX_VISITS = 32
#: files of one kind kept for a visitor: the browser may still be fetching the one before the last
KEPT = 3
#: what an interrupted upload left is removed after so many seconds
STALE = 900
SWEEP = 9
#: each frame of the GIF shows so long
FRAME_MS = 150


@dataclass(eq=False)
class Visit:
    """What one open page has: a photograph, the face taken from it, and the files made for it.

    Attributes:
        folder: the visitor's own; its name cannot be guessed.
        upload: the file given, where the server put it.
        portrait: the photograph on show.
        subject: the face being turned.
        before: file of the close-up before the turn.
    """

    folder: Path
    upload: Path | None = None
    portrait: Portrait | None = None
    subject: Subject | None = None
    before: str = ""
    made: dict[str, list[Path]] = field(default_factory=dict)
    count: int = 0

    def place(self, name: str) -> Path:
        """A fresh path that ends in `name`; of the earlier ones of that name the latest `KEPT` - 1 stay."""
        self.count += 1
        folder = self.folder / str(self.count)
        folder.mkdir(parents=True)
        earlier = self.made.setdefault(name, [])
        while len(earlier) >= KEPT:
            shutil.rmtree(earlier.pop(0), ignore_errors=True)
        earlier.append(folder)
        return folder / name

    def write(self, name: str, picture: np.ndarray, metadata: dict[str, str] | None = None) -> str:
        """Write an image under a fresh path."""
        path = self.place(name)
        write_image(path, picture, metadata)
        return str(path)


def answering(handler: Callable[..., Updates]) -> Callable[..., Updates]:
    """One handler at a time; what goes wrong becomes a sentence on the page, and what was on show stays.

    The message is the only output of a refusal, since an answer must not name a component that is not among its event's.
    """

    @functools.wraps(handler)
    def answer(self: Page, *values: Any) -> Updates:
        with self.lock:
            try:
                return {self.message: "", **handler(self, *values)}
            except LatentrotError as error:
                return {self.message: problem(str(error))}
            except Exception:
                logging.getLogger(__name__).exception("%s failed", handler.__name__)
                return {self.message: problem("that failed on the server, which has noted why; try another photograph")}

    return answer


class Page:
    """The page and its visitors.

    Args:
        rotators: to choose from, by name, in the order they are offered; the first measures and marks its reach. Shared by
            all visitors, one at a time.
        folder: for uploads and results.
        identity: tells how much of the person stays; None: that is not told.
        device: where the networks run that look at photographs.
        editor: of properties; None: the page has no sliders for them.
    """

    def __init__(
        self,
        rotators: Mapping[str, Rotator],
        folder: Path,
        identity: IdentityNetwork | None = None,
        device: str | None = None,
        editor: PropertyEditor | None = None,
    ) -> None:
        self.rotators, self.folder, self.identity, self.device = dict(rotators), folder, identity, device
        self.editor, self.sliders = editor, sliders_of(editor)
        self.visits: OrderedDict[str, Visit] = OrderedDict()
        self.lock = threading.RLock()
        with gr.Blocks(title="latentrot", analytics_enabled=False, fill_width=True) as self.blocks:
            self._lay_out()
            self._wire()

    def _lay_out(self) -> None:
        title = "<h1>latentrot</h1><p>Give a photograph and drag a slider: the head turns, the face changes.</p>"
        gr.HTML(title, elem_id="title")
        self.message = gr.HTML(elem_id="message")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                self.source = SourceColumn.lay_out()
            with gr.Column(scale=3, min_width=420):
                self.result = ResultColumn.lay_out(
                    {name: capabilities_of(r).hint for name, r in self.rotators.items()}, self.sliders
                )
        gr.HTML(
            "<p>An edited face is a synthetic image of a real person; every file says so. Nothing is kept once this "
            "page is closed.</p>",
            elem_id="foot",
        )

    def _wire(self) -> None:
        source, result = self.source, self.result
        # one event at a time, whoever sends it: the network takes every core there is
        queued: dict[str, Any] = {
            "concurrency_limit": 1, "concurrency_id": "network", "api_visibility": "private",
        }  # fmt: skip
        opening: dict[str, Any] = {
            **queued, "show_progress": "minimal", "show_progress_on": [result.empty, source.measured],
        }  # fmt: skip
        opened = [self.message, *source.outputs, *result.outputs]
        given = source.upload.upload(self.open_upload, [source.upload, source.light, result.rotator], opened, **opening)
        given.then(lambda: None, [], [source.upload], show_progress="hidden", api_visibility="private")
        source.example.click(self.open_example, [source.light, result.rotator], opened, **opening)
        for choice in (source.face, source.light):
            choice.input(self.take, [source.face, source.light, result.rotator, *result.sliders], opened, **opening)
        for choice in (result.rotator, *result.sliders):
            choice.input(
                self.turn, [result.rotator, *result.sliders], [self.message, *result.turn_outputs],
                trigger_mode="always_last", show_progress="hidden", **queued,
            )  # fmt: skip
        result.reset.click(
            self.reset, [result.rotator], [self.message, *result.sliders, *result.turn_outputs], **queued
        )
        swept = [self.message, *result.sweep.outputs]
        result.make_sweep.click(
            self.make_sweep, [result.rotator, *result.sliders], swept, show_progress_on=[result.make_sweep], **queued
        )
        self.blocks.unload(self.leave)

    # ---- what a visitor does ------------------------------------------------------------------------------------

    @answering
    def open_upload(self, given: str, light: str, name: str, request: gr.Request) -> Updates:
        """A file was given."""
        path = Path(given)
        visit = self.visit(request)
        self.hold(visit, path)
        self.tidy()
        try:
            return self.open(visit, path, light, name)
        except LatentrotError as error:
            # messages name files by their path, which is the server's own
            raise LatentrotError(str(error).replace(one_line(path), one_line(path.name))) from error

    @answering
    def open_example(self, light: str, name: str, request: gr.Request) -> Updates:
        """The bundled portrait was asked for."""
        visit = self.visit(request)
        self.hold(visit, None)
        return self.open(visit, PORTRAIT, light, name)

    @answering
    def take(self, index: int | None, light: str, name: str, request: gr.Request, *sliders: float) -> Updates:
        """Another face or another light was chosen."""
        visit = self.visit(request)
        if visit.portrait is None:
            return {}
        visit.subject = take_face(visit.portrait, index or 0, self.rotators, light, self.device, self.editor)
        return self.show_face(visit, index or 0, self.setting(sliders), name, guessed=light == "auto")

    @answering
    def turn(self, name: str, request: gr.Request, *sliders: float) -> Updates:
        """A slider was moved, or another rotator was chosen."""
        return self.show_turn(self.visit(request), self.setting(sliders), name)

    @answering
    def reset(self, name: str, request: gr.Request) -> Updates:
        """All sliders go back to 0."""
        zeros: Updates = dict.fromkeys(self.result.sliders, 0)
        return {**zeros, **self.show_turn(self.visit(request), Setting(), name)}

    @answering
    def make_sweep(self, name: str, request: gr.Request, *sliders: float) -> Updates:
        """Strip and GIF were asked for."""
        setting = self.setting(sliders)
        visit = self.visit(request)
        subject = required(visit)
        views = rotate_subject(subject, sweep_of(subject, SWEEP), name, setting.pitch, setting.wanted)
        metadata = provenance(self.rotators[name], views, setting.wanted)
        strip = visit.write("sweep.png", face_strip(subject, views), metadata)
        gif = visit.place("sweep.gif")
        write_animation(gif, animation(subject, views), FRAME_MS, metadata)
        low, high = views[0].frame.requested_deg, views[-1].frame.requested_deg
        caption = f"The source, then turned by {low:+.0f} to {high:+.0f} degrees."
        return self.result.sweep.show(caption, strip, str(gif))

    def leave(self, request: gr.Request) -> None:
        """The page was closed."""
        with self.lock:
            visit = self.visits.pop(request.session_hash or "", None)
            if visit is not None:
                self.forget(visit)

    def setting(self, values: Sequence[float]) -> Setting:
        """What the sliders say: yaw, pitch, and the properties."""
        yaw, pitch, *others = values
        moved = [(slider, value) for slider, value in zip(self.sliders, others, strict=True) if value]
        return Setting(yaw, pitch, dict(slider.wanted(value) for slider, value in moved))

    # ---- what is shown ------------------------------------------------------------------------------------------

    def open(self, visit: Visit, path: Path, light: str, name: str) -> Updates:
        """Put a new photograph on show."""
        portrait = open_shrunk(path, self.device)
        subject = take_face(portrait, 0, self.rotators, light, self.device, self.editor)
        visit.portrait, visit.subject = portrait, subject
        return {
            **self.source.offer_faces(min(len(portrait.faces), MAX_FACES)),
            **dict.fromkeys(self.result.sliders, 0),
            **self.show_face(visit, 0, Setting(), name, guessed=light == "auto"),
        }

    def show_face(self, visit: Visit, index: int, setting: Setting, name: str, guessed: bool) -> Updates:
        """The face taken, its pose and light, and its turn."""
        subject = required(visit)
        portrait, face = subject.portrait, subject.face.crop
        visit.before = visit.write("before.jpg", close_up(subject, portrait.image))
        found = visit.write("found.jpg", mark_faces(portrait, index))
        measured = {"yaw": f"{face.yaw_deg:+.1f}°", "pitch": f"{face.pitch_deg:+.1f}°"}
        measured["light, estimated" if guessed else "light, as given"] = face.light
        if portrait.shrunk:
            measured["shrunk to"] = f"{MAX_SIDE} px"
        if portrait.warnings:
            measured["note"] = "; ".join(portrait.warnings)
        return {**self.source.show(found, measured), **self.result.reveal(), **self.show_turn(visit, setting, name)}

    def show_turn(self, visit: Visit, setting: Setting, name: str) -> Updates:
        """The face before and after a turn, and what was measured."""
        began = time.perf_counter()
        subject = required(visit)
        view = rotate_subject(subject, [setting.yaw], name, setting.pitch, setting.wanted)[0]
        after = visit.write("after.jpg", close_up(subject, view.image))
        whole = visit.write("turned.jpg", view.image, provenance(self.rotators[name], [view], setting.wanted))
        identity = None if self.identity is None else identity_similarity(subject, view, self.identity)
        told = readout(subject, name, view, time.perf_counter() - began, identity)
        return self.result.show(visit.before, after, whole, told)

    # ---- visitors -----------------------------------------------------------------------------------------------

    def visit(self, request: gr.Request) -> Visit:
        """The visit an event belongs to; a first event begins one, and may end the one idle longest."""
        key = request.session_hash or ""
        if key not in self.visits:
            self.visits[key] = Visit(Path(tempfile.mkdtemp(prefix="visit-", dir=self.folder)))
        self.visits.move_to_end(key)
        while len(self.visits) > MAX_VISITS:
            self.forget(self.visits.popitem(last=False)[1])
        return self.visits[key]

    def forget(self, visit: Visit) -> None:
        """Remove a visit's files and let go of its images."""
        self.hold(visit, None)
        visit.portrait = visit.subject = None
        shutil.rmtree(visit.folder, ignore_errors=True)

    def hold(self, visit: Visit, path: Path | None) -> None:
        """Note a visit's upload and remove the one before, unless a visit holds it: equal files are stored once."""
        previous, visit.upload = visit.upload, path
        if previous is not None and all(other.upload != previous for other in self.visits.values()):
            previous.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove what interrupted uploads left."""
        used = {v.folder for v in self.visits.values()} | {v.upload.parent for v in self.visits.values() if v.upload}
        for entry in set(self.folder.iterdir()) - used:
            with suppress(OSError):  # another thread may have removed it
                if time.time() - entry.stat().st_mtime > STALE:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


@dataclass(frozen=True)
class Setting:
    """What the sliders of the page say.

    Attributes:
        yaw: by how many degrees.
        pitch: by how many degrees.
        wanted: property name -> what it shall become.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    wanted: dict[str, Wanted] = field(default_factory=dict)


def required(visit: Visit) -> Subject:
    """The face being turned.

    Raises:
        LatentrotError: none yet, or none any more.
    """
    if visit.subject is None:
        raise LatentrotError("there is no photograph (any more); give one, or take the example")
    return visit.subject


def readout(subject: Subject, name: str, view: RotatedPhotograph, seconds: float, identity: float | None) -> str:
    """What was asked, what was measured, and how long it took, as HTML.

    Args:
        subject: the face.
        name: of the rotator.
        view: its rotation.
        seconds: until it was made.
        identity: cosine to the source, if known.
    """
    frame, face = view.frame, subject.prepared_for(name).crop
    values = {
        "asked": f"{frame.requested_deg:+.0f}°",
        "turned": f"{frame.yaw_deg - face.yaw_deg:+.1f}°",
        "yaw now": f"{frame.yaw_deg:+.1f}°",
        "pitch now": f"{frame.pitch_deg:+.1f}°",
        "light now": frame.light,
        **({} if identity is None else {"identity": f"{identity:.2f}"}),
        "delay": f"{seconds:.2f} s",
    }
    low, high = face.reach or (-MAX_TURN, MAX_TURN)
    if low <= frame.requested_deg <= high:
        return value_list(values)
    return value_list(values) + warning(
        f"{frame.requested_deg:+.0f}° is beyond the range these lines were calibrated on ({low:+.0f}° to {high:+.0f}°): "
        "the turn may fall short, and less of the person stays."
    )


def serve(
    rotators: Mapping[str, Rotator],
    host: str,
    port: int,
    ready: Callable[[str], object] = print,
    identity: IdentityNetwork | None = None,
    device: str | None = None,
    editor: PropertyEditor | None = None,
) -> None:
    """Serve the page until interrupted; everything visitors gave is removed then.

    Args:
        rotators: by name, in the order they are offered.
        host: address to listen on.
        port: TCP port.
        ready: called with the page's address once it can be opened.
        identity: an identity network, whose cosine is then shown beside the yaw.
        device: where the networks run that look at photographs.
        editor: of properties; None: there are no sliders for them.

    Raises:
        LatentrotError: the address or port cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="latentrot-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        os.environ["GRADIO_TEMP_DIR"] = str(folder)  # read when components are made, and at each upload
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        page = Page(rotators, folder, identity, device, editor)
        fonts = [Font("system-ui"), Font("sans-serif")]  # the default theme's are fetched
        theme = Default(primary_hue="orange", font=fonts, font_mono=[Font("monospace")])
        try:
            _, address, _ = page.blocks.queue(max_size=64).launch(
                server_name=host, server_port=port, max_file_size=MAX_UPLOAD, theme=theme, css=STYLE, quiet=True,
                share=False, ssr_mode=False, footer_links=[], prevent_thread_lock=True, inbrowser=False,
            )  # fmt: skip
        except OSError as error:
            raise LatentrotError(f"cannot listen on {host}:{port}; give another --host or --port") from error
        try:
            ready(address)
            threading.Event().wait()
        finally:
            page.blocks.close(verbose=False)
            page.blocks.server.force_exit = True  # else a stream that a browser holds might be waited for without end
