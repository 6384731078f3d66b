"""The command line: parses, calls the library, prints. No numerics here; heavy imports happen inside the commands."""

from __future__ import annotations

import atexit
import gc
import logging
import signal
import sys
from collections.abc import Callable
from functools import cache
from typing import Protocol

import tyro

from latentrot import __version__
from latentrot.bundles import terms_in_one_line
from latentrot.cli.align import Align
from latentrot.cli.app import App
from latentrot.cli.bench import Bench
from latentrot.cli.compare import Compare
from latentrot.cli.edit import Demo, Edit
from latentrot.cli.embed import Embed
from latentrot.cli.evaluate import Evaluate
from latentrot.cli.face import TrainFace
from latentrot.cli.fit import FitDirections
from latentrot.cli.heads import Heads
from latentrot.cli.info import Info
from latentrot.cli.label import CheckLabels, Label, LabelLight, TrainLabeler
from latentrot.cli.merge import Merge
from latentrot.cli.mesh import Mesh
from latentrot.cli.pair import TrainPair
from latentrot.cli.spin import Spin, TrainPerson, TrainSpin
from latentrot.cli.streams import flush_output, prepare_streams
from latentrot.cli.train import Train, TrainEmbedder
from latentrot.cli.unpack import Unpack
from latentrot.errors import LatentrotError, one_line

__all__ = ["Edit", "main"]


class Command(Protocol):
    """A command with its options, as tyro makes it of the command line."""

    def run(self) -> None:
        """Do it, print what came of it."""
        ...


COMMANDS: dict[str, Callable[..., Command]] = {
    "edit": Edit,
    "align": Align,
    "unpack": Unpack,
    "embed": Embed,
    "merge": Merge,
    "label": Label,
    "check-labels": CheckLabels,
    "label-light": LabelLight,
    "fit-directions": FitDirections,
    "spin": Spin,
    "compare": Compare,
    "evaluate": Evaluate,
    "train": Train,
    "train-embedder": TrainEmbedder,
    "train-labeler": TrainLabeler,
    "train-face": TrainFace,
    "train-pair": TrainPair,
    "train-person": TrainPerson,
    "train-spin": TrainSpin,
    "heads": Heads,
    "mesh": Mesh,
    "bench": Bench,
    "info": Info,
    "demo": Demo,
    "app": App,
}


@cache
def collect_seldom() -> None:
    """Look for cycles seldom, and at the end not at all: importing torch makes hundreds of thousands of objects that stay.

    Looking through them again and again takes a tenth of the imports, and a third of a second when the process ends.
    """
    gc.set_threshold(10_000)
    atexit.register(leave_uncollected)


def leave_uncollected() -> None:
    """Spare the last collections; not where triton is loaded, which reports what is not collected as its leaks."""
    if "triton" not in sys.modules:
        gc.freeze()


def guard_sweep(argv: list[str]) -> list[str]:
    """`--sweep -30:30:7` -> `--sweep=-30:30:7`: a value that starts with a minus sign is not an option."""
    guarded: list[str] = []
    for word in argv:
        if guarded and guarded[-1] in {"--sweep", "--yaws", "--pitches"} and word[:1] == "-" and word[1:2].isdigit():
            guarded[-1] += f"={word}"
        else:
            guarded.append(word)
    return guarded


def main(argv: list[str] | None = None) -> int:
    """Run a command; a user's mistake is one line on standard error and exit code 2."""
    prepare_streams()
    code = run(sys.argv[1:] if argv is None else argv)
    if reason := flush_output():
        print(f"latentrot: cannot write to standard output: {one_line(reason)}", file=sys.stderr)
    return code or 2 * bool(reason)


def run(argv: list[str]) -> int:
    """Parse the command line and run its command; returns the exit code."""
    if argv == ["--version"]:
        print(f"latentrot {__version__} ({terms_in_one_line()})")
        return 0
    collect_seldom()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "PIL", "accelerate", "diffusers"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        command = tyro.extras.subcommand_cli_from_dict(
            COMMANDS, args=guard_sweep(argv), prog="latentrot",
            description="Turn a face in a photograph by walking straight lines in a diffusion model's latent space.",
        )  # fmt: skip
        command.run()
    except LatentrotError as error:
        print("latentrot: " + one_line(error, 1000), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("latentrot: interrupted; nothing half written is left", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        return 1
    except OSError as error:
        reason = f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")
        print("latentrot: " + one_line(reason, 1000), file=sys.stderr)
        return 2
    return 0
