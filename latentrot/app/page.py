"""The page: event handlers and state of the visitors.

Each visitor's files are in a separate folder, which is deleted when the page is closed. These folders are in one temporary
folder, which is deleted when the server stops.
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
    RotatedPhotograph,
    Subject,
    animation,
    close_up,
    identity_similarity,
    mark_faces,
    open_shrunk,
    provenance,
    rotate_subject,
    subject_strip,
    sweep_of,
    take_face,
)
from latentrot.portrait.portrait import Portrait
from latentrot.rotators.properties import PropertyEditor
from latentrot.rotators.protocol import Rotator, capabilities_of

__all__ = ["Page", "serve"]

#: max size of an upload
MAX_UPLOAD = "25mb"
#: max number of visitors with state; beyond it the visitor who was idle longest must upload again
MAX_VISITS = 32
#: number of files of one kind kept per visitor, because the browser may still be loading an earlier one
KEPT = 3
#: seconds after which the files of an interrupted upload are deleted
STALE = 900
SWEEP = 9
#: duration of a frame of the GIF
FRAME_MS = 150


@dataclass(eq=False)
class Visit:
    """State of one open page.

    Attributes:
        folder: folder of the visitor's files; its name is random.
        upload: the uploaded file.
        portrait: the photograph.
        subject: the face that is edited.
        before: file of the close-up before the edit.
    """

    folder: Path
    upload: Path | None = None
    portrait: Portrait | None = None
    subject: Subject | None = None
    before: str = ""
    made: dict[str, list[Path]] = field(default_factory=dict)
    count: int = 0

    def new_path(self, name: str) -> Path:
        """A new path that ends in `name`; of earlier files with this name the last `KEPT` - 1 are kept."""
        self.count += 1
        folder = self.folder / str(self.count)
        folder.mkdir(parents=True)
        earlier = self.made.setdefault(name, [])
        while len(earlier) >= KEPT:
            shutil.rmtree(earlier.pop(0), ignore_errors=True)
        earlier.append(folder)
        return folder / name

    def write(self, name: str, image: np.ndarray, metadata: dict[str, str] | None = None) -> str:
        """Write an image to a new path."""
        path = self.new_path(name)
        write_image(path, image, metadata)
        return str(path)


def event_handler(handler: Callable[..., Updates]) -> Callable[..., Updates]:
    """Run handlers one at a time, and show errors as a message on the page.

    After an error only the message is updated, because gradio refuses components that are not outputs of the event.
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
                return {
                    self.message: problem("the edit failed; the server has logged the reason; try another photograph")
                }

    return answer


class Page:
    """The page and its visitors.

    Args:
        rotators: name -> rotator, in the order of the page; shared by all visitors, one at a time. The first one is prepared
            when a photograph is opened.
        folder: folder of uploads and results.
        identity: identity network for the similarity to the source; None: the similarity is not shown.
        device: device of the networks that measure photographs.
        editor: editor of properties; None: no sliders for them.
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
        title = "<h1>latentrot</h1><p>Upload a photograph and drag a slider to rotate the head or change the face.</p>"
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
            "<p>An edited face is a synthetic image of a real person; every file is marked as such. No file is kept "
            "after this page is closed.</p>",
            elem_id="foot",
        )

    def _wire(self) -> None:
        source, result = self.source, self.result
        # one event at a time for all visitors, because the networks use all cores
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
            choice.input(
                self.choose_face, [source.face, source.light, result.rotator, *result.sliders], opened, **opening
            )
        for choice in (result.rotator, *result.sliders):
            choice.input(
                self.apply_sliders, [result.rotator, *result.sliders], [self.message, *result.turn_outputs],
                trigger_mode="always_last", show_progress="hidden", **queued,
            )  # fmt: skip
        result.reset.click(
            self.reset, [result.rotator], [self.message, *result.sliders, *result.turn_outputs], **queued
        )
        swept = [self.message, *result.sweep.outputs]
        result.make_sweep.click(
            self.make_sweep, [result.rotator, *result.sliders], swept, show_progress_on=[result.make_sweep], **queued
        )
        self.blocks.unload(self.close_page)

    # ---- events -------------------------------------------------------------------------------------------------

    @event_handler
    def open_upload(self, given: str, light: str, name: str, request: gr.Request) -> Updates:
        """Open an uploaded file."""
        path = Path(given)
        visit = self.visit(request)
        self.set_upload(visit, path)
        self.delete_stale_uploads()
        try:
            return self.open(visit, path, light, name)
        except LatentrotError as error:
            # do not reveal paths on the server
            raise LatentrotError(str(error).replace(one_line(path), one_line(path.name))) from error

    @event_handler
    def open_example(self, light: str, name: str, request: gr.Request) -> Updates:
        """Open the bundled portrait."""
        visit = self.visit(request)
        self.set_upload(visit, None)
        return self.open(visit, PORTRAIT, light, name)

    @event_handler
    def choose_face(self, index: int | None, light: str, name: str, request: gr.Request, *sliders: float) -> Updates:
        """Choose another face or light."""
        visit = self.visit(request)
        if visit.portrait is None:
            return {}
        visit.subject = take_face(visit.portrait, index or 0, self.rotators, light, self.device, self.editor)
        return self.show_face(visit, index or 0, self.setting(sliders), name, guessed=light == "auto")

    @event_handler
    def apply_sliders(self, name: str, request: gr.Request, *sliders: float) -> Updates:
        """Apply the sliders with the chosen rotator."""
        return self.show_turn(self.visit(request), self.setting(sliders), name)

    @event_handler
    def reset(self, name: str, request: gr.Request) -> Updates:
        """Set all sliders to 0."""
        zeros: Updates = dict.fromkeys(self.result.sliders, 0)
        return {**zeros, **self.show_turn(self.visit(request), Setting(), name)}

    @event_handler
    def make_sweep(self, name: str, request: gr.Request, *sliders: float) -> Updates:
        """Make the contact sheet and the GIF of a sweep."""
        setting = self.setting(sliders)
        visit = self.visit(request)
        subject = required(visit)
        views = rotate_subject(subject, sweep_of(subject, SWEEP), name, setting.pitch, setting.wanted)
        metadata = provenance(self.rotators[name], views, setting.wanted)
        strip = visit.write("sweep.png", subject_strip(subject, views), metadata)
        gif = visit.new_path("sweep.gif")
        write_animation(gif, animation(subject, views), FRAME_MS, metadata)
        low, high = views[0].frame.requested_deg, views[-1].frame.requested_deg
        caption = f"The source and its rotations from {low:+.0f} to {high:+.0f} degrees."
        return self.result.sweep.show(caption, strip, str(gif))

    def close_page(self, request: gr.Request) -> None:
        """Delete the state of a closed page."""
        with self.lock:
            visit = self.visits.pop(request.session_hash or "", None)
            if visit is not None:
                self.delete_visit(visit)

    def setting(self, values: Sequence[float]) -> Setting:
        """The setting of all sliders from their values."""
        yaw, pitch, *others = values
        moved = [(slider, value) for slider, value in zip(self.sliders, others, strict=True) if value]
        return Setting(yaw, pitch, dict(slider.wanted(value) for slider, value in moved))

    # ---- updates ------------------------------------------------------------------------------------------------

    def open(self, visit: Visit, path: Path, light: str, name: str) -> Updates:
        """Open a photograph and show its largest face."""
        portrait = open_shrunk(path, self.device)
        subject = take_face(portrait, 0, self.rotators, light, self.device, self.editor)
        visit.portrait, visit.subject = portrait, subject
        return {
            **self.source.offer_faces(min(len(portrait.faces), MAX_FACES)),
            **dict.fromkeys(self.result.sliders, 0),
            **self.show_face(visit, 0, Setting(), name, guessed=light == "auto"),
        }

    def show_face(self, visit: Visit, index: int, setting: Setting, name: str, guessed: bool) -> Updates:
        """Show the chosen face, its pose and light, and its edit."""
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
        """Show the face before and after an edit, and the measurements."""
        began = time.perf_counter()
        subject = required(visit)
        view = rotate_subject(subject, [setting.yaw], name, setting.pitch, setting.wanted)[0]
        after = visit.write("after.jpg", close_up(subject, view.image))
        whole = visit.write("turned.jpg", view.image, provenance(self.rotators[name], [view], setting.wanted))
        identity = None if self.identity is None else identity_similarity(subject, view, self.identity)
        measurements = readout(subject, name, view, time.perf_counter() - began, identity)
        return self.result.show(visit.before, after, whole, measurements)

    # ---- visitors -----------------------------------------------------------------------------------------------

    def visit(self, request: gr.Request) -> Visit:
        """The visit of an event; a new visit may replace the one that was idle longest."""
        key = request.session_hash or ""
        if key not in self.visits:
            self.visits[key] = Visit(Path(tempfile.mkdtemp(prefix="visit-", dir=self.folder)))
        self.visits.move_to_end(key)
        while len(self.visits) > MAX_VISITS:
            self.delete_visit(self.visits.popitem(last=False)[1])
        return self.visits[key]

    def delete_visit(self, visit: Visit) -> None:
        """Delete the files and images of a visit."""
        self.set_upload(visit, None)
        visit.portrait = visit.subject = None
        shutil.rmtree(visit.folder, ignore_errors=True)

    def set_upload(self, visit: Visit, path: Path | None) -> None:
        """Set the upload of a visit; delete the earlier one unless another visit uses it, as gradio deduplicates uploads."""
        previous, visit.upload = visit.upload, path
        if previous is not None and all(other.upload != previous for other in self.visits.values()):
            previous.unlink(missing_ok=True)

    def delete_stale_uploads(self) -> None:
        """Delete the files of interrupted uploads."""
        used = {v.folder for v in self.visits.values()} | {v.upload.parent for v in self.visits.values() if v.upload}
        for entry in set(self.folder.iterdir()) - used:
            with suppress(OSError):  # another thread may have deleted it
                if time.time() - entry.stat().st_mtime > STALE:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


@dataclass(frozen=True)
class Setting:
    """Setting of the sliders.

    Attributes:
        yaw: rotation in degrees of yaw.
        pitch: rotation in degrees of pitch.
        wanted: property name -> change.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    wanted: dict[str, Wanted] = field(default_factory=dict)


def required(visit: Visit) -> Subject:
    """The face of a visit.

    Raises:
        LatentrotError: no photograph is loaded, or it was deleted.
    """
    if visit.subject is None:
        raise LatentrotError("no photograph is loaded; upload one, or use the example")
    return visit.subject


def readout(subject: Subject, name: str, view: RotatedPhotograph, seconds: float, identity: float | None) -> str:
    """Format requested rotation, measurements, response time and warnings as HTML.

    Args:
        subject: the face.
        name: name of the rotator.
        view: the rotated photograph.
        seconds: response time.
        identity: cosine similarity to the source; None: unknown.
    """
    frame, face = view.frame, subject.prepared_for(name).crop
    values = {
        "requested": f"{frame.requested_deg:+.0f}°",
        "turned": f"{frame.yaw_deg - face.yaw_deg:+.1f}°",
        "yaw now": f"{frame.yaw_deg:+.1f}°",
        "pitch now": f"{frame.pitch_deg:+.1f}°",
        "light now": frame.light,
        **({} if identity is None else {"identity": f"{identity:.2f}"}),
        "delay": f"{seconds:.2f} s",
    }
    return value_list(values) + "".join(map(warning, view.warnings))


def serve(
    rotators: Mapping[str, Rotator],
    host: str,
    port: int,
    ready: Callable[[str], object] = print,
    identity: IdentityNetwork | None = None,
    device: str | None = None,
    editor: PropertyEditor | None = None,
) -> None:
    """Serve the page until interrupted, then delete all files of its visitors.

    Args:
        rotators: name -> rotator, in the order of the page.
        host: address to listen on.
        port: TCP port.
        ready: called with the address when the page is served.
        identity: identity network for the similarity to the source; None: the similarity is not shown.
        device: device of the networks that measure photographs.
        editor: editor of properties; None: no sliders for them.

    Raises:
        LatentrotError: the address or port cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="latentrot-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        os.environ["GRADIO_TEMP_DIR"] = str(folder)  # gradio reads it when components are created and at each upload
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        page = Page(rotators, folder, identity, device, editor)
        fonts = [Font("system-ui"), Font("sans-serif")]  # the fonts of the default theme would be downloaded
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
            page.blocks.server.force_exit = True  # do not wait for open browser connections
