"""The command line: parses, calls the library, prints. No numerics here; heavy imports happen inside the commands."""

from __future__ import annotations

import atexit
import gc
import logging
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import tyro

from latentrot import __version__
from latentrot.bundles import terms_in_one_line
from latentrot.cli.align import Align
from latentrot.cli.app import App
from latentrot.cli.attributes import TrainAttributes
from latentrot.cli.bench import Bench
from latentrot.cli.compare import Compare
from latentrot.cli.edit import Demo, Edit
from latentrot.cli.embed import Embed
from latentrot.cli.evaluate import Evaluate
from latentrot.cli.face import TrainLandmarks, TrainParts
from latentrot.cli.fit import FitDirections
from latentrot.cli.heads import Heads
from latentrot.cli.info import Info
from latentrot.cli.label import CheckLabels, Label, LabelLight, TrainLabeler
from latentrot.cli.merge import Merge
from latentrot.cli.mesh import Mesh
from latentrot.cli.pair import TrainPair
from latentrot.cli.properties import Properties
from latentrot.cli.spin import Spin, TrainPerson, TrainSpin
from latentrot.cli.streams import flush_output, prepare_streams
from latentrot.cli.train import TrainEmbedder, TrainModel
from latentrot.cli.unpack import Unpack
from latentrot.errors import LatentrotError, one_line

__all__ = ["Edit", "main"]

log = logging.getLogger(__name__)


class Command(Protocol):
    """A command with its options, parsed by tyro."""

    def run(self) -> None:
        """Run the command and print its results."""
        ...


@dataclass(frozen=True)
class Train:
    """Train a network; resumes to the exact step."""

    def run(self) -> None:
        """Refuse `train` without the name of a network."""
        raise LatentrotError(f"train: expected the name of a network: {', '.join(SUBCOMMANDS['train'])}")


COMMANDS: dict[str, Callable[..., Command]] = {
    "edit": Edit,
    "align": Align,
    "unpack": Unpack,
    "embed": Embed,
    "label": Label,
    "fit-directions": FitDirections,
    "spin": Spin,
    "evaluate": Evaluate,
    "train": Train,
    "heads": Heads,
    "mesh": Mesh,
    "properties": Properties,
    "info": Info,
    "demo": Demo,
    "app": App,
}
#: subcommands by command, such as `check` in `latentrot label check`
SUBCOMMANDS: dict[str, dict[str, Callable[..., Command]]] = {
    "embed": {"merge": Merge},
    "evaluate": {"bench": Bench, "compare": Compare},
    "label": {"check": CheckLabels, "light": LabelLight},
    "train": {
        "model": TrainModel,
        "embedder": TrainEmbedder,
        "labeler": TrainLabeler,
        "attributes": TrainAttributes,
        "landmarks": TrainLandmarks,
        "parts": TrainParts,
        "pair": TrainPair,
        "person": TrainPerson,
        "spin": TrainSpin,
    },
}
#: command of the previous version -> its present name
RENAMED = {
    "merge": "embed merge",
    "bench": "evaluate bench",
    "compare": "evaluate compare",
    "check-labels": "label check",
    "label-light": "label light",
    "train-face": "train",
    **{f"train-{name}": f"train {name}" for name in ("embedder", "labeler", "pair", "person", "spin")},
}


@cache
def relax_gc() -> None:
    """Run the garbage collector rarely, and not at exit.

    Importing torch creates hundreds of thousands of permanent objects. Scanning them takes a tenth of the import time, and a
    third of a second at exit.
    """
    gc.set_threshold(10_000)
    atexit.register(skip_last_collection)


def skip_last_collection() -> None:
    """Skip the collections at exit, except with triton, which reports uncollected objects as leaks."""
    if "triton" not in sys.modules:
        gc.freeze()


def translate_old_command(argv: list[str]) -> list[str]:
    """Translate a command of the previous version, with a warning."""
    old = argv[0] if argv else ""
    if old == "train" and argv[1:2] and argv[1].startswith("--") and argv[1] != "--help":
        old, new = "train", "train model"
    elif old in RENAMED:
        new = RENAMED[old]
    else:
        return argv
    rest = argv[1:]
    log.warning("latentrot %s is now: latentrot %s", old, " ".join([new, *rest[: old == "train-face"]]))
    return [*new.split(), *rest]


def split_command(argv: list[str]) -> tuple[str, dict[str, Callable[..., Command]], list[str]]:
    """Program name, available commands and remaining arguments, for a command with subcommands or the top level."""
    further = SUBCOMMANDS.get(argv[0], {}) if argv else {}
    if len(argv) > 1 and argv[1] in further:
        return f"latentrot {argv[0]}", further, argv[1:]
    return "latentrot", COMMANDS, argv


def overview() -> str:
    """The list of commands, one line each."""
    lines = []
    for name, command in COMMANDS.items():
        further = SUBCOMMANDS.get(name, {})
        lines.append(f"  {name:15} {(command.__doc__ or '').strip().splitlines()[0]}")
        lines += [f"{'':18}{name} {' | '.join(further)}"] if further else []
    return "\n".join([
        "latentrot COMMAND --help shows the options of a command.", "", "Edit the face in a photograph by walking along "
        "directions in the latent space", "of a diffusion model.", "", *lines,
    ])  # fmt: skip


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
    """Run a command; user errors are one line on standard error and exit code 2."""
    prepare_streams()
    code = run(sys.argv[1:] if argv is None else argv)
    if reason := flush_output():
        print(f"latentrot: cannot write to standard output: {one_line(reason)}", file=sys.stderr)
    return code or 2 * bool(reason)


def run(argv: list[str]) -> int:
    """Parse the command line and run its command; returns the exit code."""
    if argv in ([], ["--help"], ["-h"], ["--version"]):
        with suppress(BrokenPipeError):  # the reader may have closed the pipe
            print(
                f"latentrot {__version__} ({terms_in_one_line()})" if argv == ["--version"] else overview(), flush=True
            )
        return 0 if argv else 2
    relax_gc()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "PIL", "accelerate", "diffusers"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        program, commands, rest = split_command(translate_old_command(argv))
        command = tyro.extras.subcommand_cli_from_dict(
            commands, args=guard_sweep(rest), prog=program,
            description="Edit the face in a photograph by walking along directions in the latent space of a diffusion model.",
        )  # fmt: skip
        command.run()
    except LatentrotError as error:
        print("latentrot: " + one_line(error, 1000), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("latentrot: interrupted; all written files are complete", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        return 1
    except OSError as error:
        reason = f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")
        print("latentrot: " + one_line(reason, 1000), file=sys.stderr)
        return 2
    return 0
