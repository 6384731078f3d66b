"""Layout of the page: components in order, and the updates of each group.

Event handlers and state are in `page`.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import gradio as gr
from gradio.blocks import Block

from latentrot.data.images import SUFFIXES
from latentrot.directions.properties import Wanted, by
from latentrot.errors import one_line
from latentrot.faces.estimate import LIGHTS
from latentrot.geometry.config import MeshConfig
from latentrot.portrait.turns import FURTHEST
from latentrot.rotators.properties import PropertyEditor

__all__ = ["STYLE", "ResultColumn", "SourceColumn", "SweepPanel", "Updates", "problem", "value_list", "warning"]

#: updates of components: a new value, or the result of `gr.update`
Updates = dict[Block, Any]

STYLE = """
.gradio-container, .gradio-container > main { width: 100% !important; max-width: 1120px !important;
  margin: 0 auto !important; }
#title, #message, #measured, #readout, #caption, #empty, #foot { padding: 0 !important; }
#title .html-container, #message .html-container, #measured .html-container, #readout .html-container,
#caption .html-container, #empty .html-container, #foot .html-container { padding: 0 !important; }
#message:not(:has(.problem)), #measured:not(:has(.values)) { display: none; }
/* errors are shown as text; Gradio's bare "Error" would cover the component until it is used again */
[data-testid="status-tracker"]:has(.error) { display: none !important; }
#title h1 { font-size: 1.6rem; margin: 0 0 .15rem; }
#title p, #foot p, #caption p { color: var(--body-text-color-subdued); margin: 0; }
#foot p, #caption p { font-size: .85rem; }
#message .problem { border-left: 4px solid #c62828; background: #c6282818; padding: .55rem .8rem; border-radius: 4px; }
#readout .warning { border-left: 4px solid #e69500; background: #e6950018; padding: .45rem .8rem; border-radius: 4px;
  margin-top: .5rem; }
#empty .inner { border: 1px dashed var(--border-color-primary); border-radius: 8px; padding: 9rem 2rem;
  text-align: center; color: var(--body-text-color-subdued); }
.values { display: grid; grid-template-columns: repeat(auto-fit, minmax(84px, 1fr)); gap: .5rem; margin: 0; }
.values div { background: var(--background-fill-secondary); border-radius: 6px; padding: .4rem .6rem; }
.values dt { font-size: .75rem; color: var(--body-text-color-subdued); margin: 0; }
.values dd { font-size: 1.05rem; font-weight: 600; margin: 0; font-variant-numeric: tabular-nums; }
"""


#: properties with a slider, if the model has directions for them, in the order of the page; light: -1 left to 1 right
OFFERED = ("smile", "age", "light", "mouth_open", "bangs", "beard", "male", "sunglasses", "glasses")
#: max number of sliders of properties
MAX_SLIDERS = 8
#: max pitch, degrees
MAX_PITCH = 45


@dataclass(frozen=True)
class PropertySlider:
    """A slider of one property.

    Attributes:
        label: text beside the slider.
        low: min value.
        high: max value.
        step: step between values.
        below: property changed by values below 0.
        above: property changed by values above 0.
    """

    label: str
    low: float
    high: float
    step: float
    below: str
    above: str

    def wanted(self, value: float) -> tuple[str, Wanted]:
        """The property that a value other than 0 changes, and its change."""
        if self.below == self.above:
            return self.above, by(value)
        return (self.above if value > 0 else self.below), by(abs(value))


def sliders_of(editor: PropertyEditor | None) -> list[PropertySlider]:
    """The sliders for the properties of an editor, at most `MAX_SLIDERS`."""
    known = {p.name: editor.calibration(p.name).range for p in editor.properties} if editor else {}
    found = []
    for name in OFFERED:
        if name == "light" and {"light_left", "light_right"} <= set(known):
            found.append(PropertySlider("light: left to right", -1, 1, 0.1, "light_left", "light_right"))
        elif name == "age" and name in known:
            low, high = (5 * math.floor(abs(v) / 5) for v in known[name])
            found.append(PropertySlider("age (years)", -low, high, 1, name, name))
        elif name in known:
            low, high = known[name]
            low, high = (-1 if low < -0.4 else 0), (1 if high > 0 else 0)
            found.append(PropertySlider(name.replace("_", " "), low, high, 0.1, name, name))
    return found[:MAX_SLIDERS]


ROTATOR_HINT = (
    "geometry warps the visible parts of the photograph, the rotator generates the hidden parts; from "
    f"{MeshConfig.whole_from[0]:.0f} to {MeshConfig.whole_from[1]:.0f} degrees on geometry renders the whole head"
)


@dataclass(frozen=True, eq=False)
class SourceColumn:
    """The left column: the photograph and the chosen face."""

    upload: gr.File
    example: gr.Button
    image: gr.Image
    measured: gr.HTML
    face: gr.Radio
    light: gr.Radio

    @classmethod
    def lay_out(cls) -> Self:
        """Create the components."""
        return cls(
            upload=gr.File(
                label="Photograph", file_types=[*SUFFIXES], file_count="single", height=130, elem_id="upload"
            ),
            example=gr.Button("Take the example", size="sm", elem_id="example"),
            image=gr.Image(
                label="Face found", interactive=False, buttons=[], height=300, visible=False, elem_id="source",
                alt_text="The photograph with a box around each face",
            ),
            measured=gr.HTML(elem_id="measured"),
            face=gr.Radio([], label="Face", visible=False, type="index", elem_id="face"),
            light=gr.Radio(
                ["auto", *LIGHTS], value="auto", label="Main light comes from", elem_id="light",
                info="auto estimates it; left and right are the viewer's",
            ),
        )  # fmt: skip

    @property
    def outputs(self) -> list[Block]:
        """Components updated by a new photograph."""
        return [self.upload, self.image, self.measured, self.face]

    def offer_faces(self, count: int) -> Updates:
        """Show a choice of `count` faces with the first one chosen, and clear the upload."""
        names = [f"{i + 1}" for i in range(count)]
        return {self.upload: None, self.face: gr.update(choices=names, value=names[0], visible=count > 1)}

    def show(self, image: str, measured: Mapping[str, str]) -> Updates:
        """Show the file of the photograph with marked faces, and the measurements of the chosen one."""
        return {self.image: gr.update(value=image, visible=True), self.measured: value_list(measured)}


@dataclass(frozen=True, eq=False)
class SweepPanel:
    """Below the result, hidden until requested: a sweep as contact sheet and GIF."""

    panel: gr.Column
    caption: gr.HTML
    strip: gr.Image
    save_strip: gr.DownloadButton
    save_gif: gr.DownloadButton

    @classmethod
    def lay_out(cls) -> Self:
        """Create the components, hidden."""
        with gr.Column(visible=False) as panel:
            caption = gr.HTML(elem_id="caption")
            strip = gr.Image(
                show_label=False,
                interactive=False,
                buttons=[],
                elem_id="strip",
                alt_text="The source and its rotations",
            )
            with gr.Row():
                save_strip = gr.DownloadButton("Save the strip", size="sm", elem_id="save-strip")
                save_gif = gr.DownloadButton("Save the GIF", size="sm", elem_id="save-gif")
        return cls(panel, caption, strip, save_strip, save_gif)

    @property
    def outputs(self) -> list[Block]:
        """Components updated by a new sweep."""
        return [self.panel, self.caption, self.strip, self.save_strip, self.save_gif]

    def hide(self) -> Updates:
        """Hide the sweep of an earlier face."""
        return {self.panel: gr.update(visible=False)}

    def show(self, caption: str, strip: str, gif: str) -> Updates:
        """Show the two files with a caption."""
        return {
            self.panel: gr.update(visible=True),
            self.caption: f"<p>{html.escape(caption)}</p>",
            self.strip: strip,
            self.save_strip: strip,
            self.save_gif: gif,
        }


@dataclass(frozen=True, eq=False)
class ResultColumn:
    """The right column: a placeholder, then the face before and after the edit, the sliders, and the measurements."""

    empty: gr.HTML
    column: gr.Column
    compare: gr.ImageSlider
    yaw: gr.Slider
    pitch: gr.Slider
    properties: list[gr.Slider]
    reset: gr.Button
    rotator: gr.Radio
    readout: gr.HTML
    save: gr.DownloadButton
    make_sweep: gr.Button
    sweep: SweepPanel

    @classmethod
    def lay_out(cls, rotators: Mapping[str, str], properties: Sequence[PropertySlider] = ()) -> Self:
        """Create the components, all but the placeholder hidden.

        Args:
            rotators: hint by name; the first one is chosen.
            properties: sliders of properties.
        """
        empty = gr.HTML('<div class="inner">The edited face appears here.</div>', elem_id="empty")
        with gr.Column(visible=False) as column:
            compare = gr.ImageSlider(
                label="Before and after", interactive=False, buttons=["fullscreen"], type="filepath", max_height=540,
                elem_id="compare",
            )  # fmt: skip
            yaw = gr.Slider(
                -FURTHEST, FURTHEST, value=0, step=1, label="Turn by (degrees)", buttons=[], elem_id="yaw",
                info="> 0: nose to the viewer's right",
            )  # fmt: skip
            with gr.Accordion("Face", open=True, elem_id="face-sliders"), gr.Row():
                pitch = gr.Slider(
                    -MAX_PITCH, MAX_PITCH, value=0, step=1, label="Look up (degrees)", buttons=[], elem_id="pitch",
                    min_width=220,
                )  # fmt: skip
                sliders = [
                    gr.Slider(
                        p.low, p.high, value=0, step=p.step, label=p.label, buttons=[], min_width=220,
                        elem_id=f"set-{p.above}",
                    )
                    for p in properties
                ]  # fmt: skip
            rotator = gr.Radio(
                list(rotators), value=next(iter(rotators)), label="Rotator", elem_id="rotator",
                info="; ".join([ROTATOR_HINT, *(f"{name}: {hint}" for name, hint in rotators.items() if hint)]),
            )  # fmt: skip
            readout = gr.HTML(elem_id="readout")
            with gr.Row():
                save = gr.DownloadButton("Save the photograph", size="sm", elem_id="save")
                make_sweep = gr.Button("Make a sweep", size="sm", elem_id="sweep")
                reset = gr.Button("Reset", size="sm", elem_id="reset")
            sweep = SweepPanel.lay_out()
        return cls(empty, column, compare, yaw, pitch, sliders, reset, rotator, readout, save, make_sweep, sweep)

    @property
    def sliders(self) -> list[gr.Slider]:
        """Yaw, pitch and the properties."""
        return [self.yaw, self.pitch, *self.properties]

    @property
    def outputs(self) -> list[Block]:
        """Components updated by a new face."""
        return [self.empty, self.column, *self.sliders, self.sweep.panel, *self.turn_outputs]

    @property
    def turn_outputs(self) -> list[Block]:
        """Components updated by a new edit."""
        return [self.compare, self.readout, self.save]

    def reveal(self) -> Updates:
        """Show the column instead of the placeholder, and hide the sweep of an earlier face."""
        return {self.empty: gr.update(visible=False), self.column: gr.update(visible=True), **self.sweep.hide()}

    def show(self, before: str, after: str, whole: str, readout: str) -> Updates:
        """Show the close-ups before and after, the file of the whole photograph, and the HTML of the measurements."""
        return {self.compare: (before, after), self.readout: readout, self.save: whole}


def problem(text: str) -> str:
    """An error message as one line of HTML."""
    line = one_line(text)
    return f'<div class="problem" role="alert">{html.escape(line[:1].upper() + line[1:])}</div>'


def warning(text: str) -> str:
    """A warning as HTML."""
    return f'<div class="warning">{html.escape(text)}</div>'


def value_list(values: Mapping[str, str]) -> str:
    """Names and values as HTML."""
    cells = (f"<div><dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd></div>" for k, v in values.items())
    return f'<dl class="values">{"".join(cells)}</dl>'
