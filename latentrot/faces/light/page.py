"""The labelling page for the main light: shows images, handles keys, and stores answers in the session."""

from __future__ import annotations

import base64
import html
import importlib.util
import io
import os
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from PIL import Image

from latentrot.data.celeba import FaceFolder
from latentrot.errors import LatentrotError
from latentrot.faces.light.answers import UNSURE
from latentrot.faces.light.session import LabelProgress, LabelSession

if TYPE_CHECKING:
    import gradio as gr

__all__ = ["serve_label_page"]

HOST = "127.0.0.1"
#: side of the displayed image in pixels
SHOWN_SIZE = 448
#: light, its key, and its button text
BUTTONS = (("left", "1", "◀ left"), ("center", "2", "center"), ("right", "3", "right ▶"), (UNSURE, "0", "unsure"))
CSS = """
.gradio-container { max-width: 640px !important; margin: 0 auto !important; }
.gradio-container main { padding: 12px !important; }
#picture .frame { height: min(57vh, 448px); display: flex; align-items: center; justify-content: center;
  border-radius: 12px; background: #17181c; color: #c9ccd3; overflow: hidden; font-size: 17px; }
#picture img { height: 100%; aspect-ratio: 1; margin: 0; border-radius: 0; }
#lights { gap: 8px; } #lights button { min-width: 0; font-size: 15px; padding: 11px 4px; }
#state progress { display: block; width: 100%; height: 5px; margin-bottom: 6px; appearance: none; border: 0; }
#state progress::-webkit-progress-bar { background: #8883; }
#state progress::-webkit-progress-value { background: #3867d6; }
#state .row { display: flex; justify-content: space-between; gap: 12px; opacity: .8; flex-wrap: wrap; font-size: 13px; }
#who { align-items: center; } #who .prose p { font-size: 14px; opacity: .8; text-align: right; }
"""
# Gradio has no key bindings: a key clicks its button, except while typing or on key repeat
KEYS = """<script>
document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = ["INPUT", "TEXTAREA"].includes(event.target.tagName);
  if (typing) { if (event.key === "Enter") event.target.blur(); return; }
  const name = {KEY_NAMES}[event.key.toLowerCase()];
  const button = name && document.getElementById("say-" + name);
  if (button && !button.disabled) { event.preventDefault(); button.click(); }
});
</script>"""


def serve_label_page(
    folder: FaceFolder, session: LabelSession, *, annotator: str = "", port: int | None = None
) -> None:
    """Serve the page on the loopback address until interrupted.

    Args:
        folder: the images.
        session: the labelling session, which stores the answers.
        annotator: initial name.
        port: of 127.0.0.1; None: the first free one from 7860.

    Raises:
        LatentrotError: Gradio is not installed, or the port is in use.
        KeyboardInterrupt: the user pressed Ctrl-C.
    """
    gr = _gradio()
    page = _page(gr, folder, session, annotator)
    theme = gr.themes.Base(primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["monospace"])
    keys = {key: light for light, key, _ in BUTTONS} | {"u": "undo"}
    try:
        _, url, _ = page.launch(
            server_name=HOST, server_port=port, share=False, inbrowser=False, quiet=True, prevent_thread_lock=True,
            ssr_mode=False, footer_links=[], theme=theme, css=CSS, head=KEYS.replace("{KEY_NAMES}", str(keys)),
        )  # fmt: skip
    except OSError as error:
        raise LatentrotError(f"cannot open port {port or 'from 7860 up'} of {HOST}: {error}") from error
    print(f"label at {url} (keys 1 left, 2 center, 3 right, 0 unsure, u undo); Ctrl-C ends", flush=True)
    try:
        threading.Event().wait()
    finally:
        page.close(verbose=False)
        page.server.force_exit = True  # do not wait for open browser connections


def _gradio() -> Any:
    if importlib.util.find_spec("gradio") is None:
        raise LatentrotError('the page needs Gradio: pip install "gradio>=6" (or pip install "latentrot[page]")')
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio  # noqa: PLC0415

    return gradio


def _page(gr: Any, folder: FaceFolder, session: LabelSession, annotator: str) -> gr.Blocks:
    with gr.Blocks(title="latentrot: where does the light come from?", analytics_enabled=False) as page:
        gr.Markdown("### Which side of the image does the main light come from?")
        image = gr.HTML(elem_id="picture")
        with gr.Row(elem_id="lights"):
            buttons = {light: gr.Button(f"{text} [{key}]", elem_id=f"say-{light}") for light, key, text in BUTTONS}
            undo = gr.Button("undo [u]", elem_id="say-undo")
        state = gr.HTML(elem_id="state")
        with gr.Row(elem_id="who"):
            gr.Markdown("answers are kept under the name")
            name = gr.Textbox(
                annotator, label="Your name", placeholder="your name, then Enter", elem_id="annotator", container=False
            )
        shown = gr.Textbox(visible="hidden")  # name of the displayed image; it is sent with the answer
        outputs = [image, state, shown, *buttons.values()]

        def show(who: str) -> list[Any]:
            return _shown(gr, folder, session, who)

        def say(light: str, who: str, image_id: str) -> list[Any]:
            _or_complain(gr, lambda: session.answer(who, image_id, light))
            return show(who)

        def take_back(who: str) -> list[Any]:
            _or_complain(gr, lambda: session.undo(who))
            return show(who)

        # one event at a time, in the order of the key presses
        once = {"show_progress": "hidden", "concurrency_limit": 1, "concurrency_id": "session"}
        for light, button in buttons.items():
            button.click(partial(say, light), [name, shown], outputs, **once)
        undo.click(take_back, [name], outputs, **once)
        for event in (page.load, name.submit, name.blur):
            event(show, [name], outputs, **once)
    return page


def _or_complain(gr: Any, act: Callable[[], object]) -> None:
    """Run an action; show its error on the page in one line."""
    try:
        act()
    except LatentrotError as error:
        raise gr.Error(str(error)) from error


def _shown(gr: Any, folder: FaceFolder, session: LabelSession, who: str) -> list[Any]:
    """Updates of the page: image, state, name of the image, and buttons."""
    if not who.strip():
        return [_frame("Type your name below and press Enter."), "", "", *_usable(gr, False)]
    image_id = session.current(who)
    state = _state(session.progress(who))
    if image_id is None:
        return [_frame("Nothing more to answer. Thank you!"), state, "", *_usable(gr, False)]
    return [_frame(_image(folder, image_id)), state, image_id, *_usable(gr, True)]


def _usable(gr: Any, usable: bool) -> list[Any]:
    return [gr.Button(interactive=usable) for _ in BUTTONS]


def _frame(inside: str) -> str:
    return f'<div class="frame">{inside}</div>'


def _image(folder: FaceFolder, image_id: str) -> str:
    """The enlarged crop as an embedded image, which cannot get out of step with its name or be cached."""
    file = io.BytesIO()
    Image.fromarray(folder.read_crop(image_id, SHOWN_SIZE)).save(file, "PNG", compress_level=1)
    content = base64.b64encode(file.getvalue()).decode()
    name = html.escape(image_id, quote=True)
    return f'<img src="data:image/png;base64,{content}" data-image="{name}" alt="{name}">'


def _state(now: LabelProgress) -> str:
    return (
        f'<progress max="{now.batch}" value="{max(now.batch - now.left, 0)}"></progress>'
        f'<div class="row"><span id="answered">answers by you: {now.answered}</span>'
        f"<span>until the next fit: {now.left}</span>"
        f"<span>settled by hand: {now.hand} of {now.images}, disputed: {now.disputed}</span></div>"
    )
