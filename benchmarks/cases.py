"""Try inputs that once failed, as their users would, and print a line for each: exit code, what came out, what was said.

    python benchmarks/cases.py ../shared/cases            # this code
    PYTHONPATH=OTHER python benchmarks/cases.py ...       # another copy of the package

Nothing is judged here but tracebacks: what is right is for the reader, and for the tests.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import latentrot
from latentrot.bundles import PORTRAIT

#: seconds a command may take
LONGEST_S = 600


@dataclass(frozen=True)
class Case:
    """One input and the commands that try it, one after another in one folder.

    Args:
        name: of the line.
        commands: arguments of `latentrot`; {c} is the folder of inputs, {p} the bundled portrait; one that begins with `!`
            is for the shell.
        environment: variables set.
    """

    name: str
    commands: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()


MESH = "--rotator mesh"
FIT = "fit-directions --latents s --light center --calibrate 0 --held-out 0 --out x.safetensors --labels"
EMBED = "embed --model heads64 --out s --data"
CASES = (
    Case("collide", (f"edit {{c}}/collide --deg 15 {MESH} --out o",)),
    Case("latin1: sweep", (f"edit {{c}}/latin1 --sweep -10:10:3 {MESH} --out o",)),
    Case("latin1: label", ("label --data {c}/latin1 --out l.csv",)),
    Case("cp1252", (f"edit {{c}}/cp1252/*.jpg --deg 5 {MESH}",), (("PYTHONIOENCODING", "cp1252"),)),
    Case("heads, then mirrored", (f"{EMBED} {{c}}/heads", f"{EMBED} {{c}}/heads_mirrored")),
    Case(
        "heads, shard removed, then mirrored",
        (f"{EMBED} {{c}}/heads --shard-size 3", "!rm s/shard-00001*", f"{EMBED} {{c}}/heads_mirrored --shard-size 3"),
    ),
    Case("labels: identity != 612", (f"{EMBED} {{c}}/heads", f"{FIT} {{c}}/labels.csv --where 'identity != 612'")),
    Case("labels: identity == 612", (f"{EMBED} {{c}}/heads", f"{FIT} {{c}}/labels.csv --where 'identity == 612'")),
    Case("no_light.csv", (f"{EMBED} {{c}}/heads", f"{FIT} {{c}}/no_light.csv")),
    Case("comma.csv", (f"{EMBED} {{c}}/heads", f"{FIT} {{c}}/comma.csv")),
    Case("loose: label", ("label --data {c}/loose --labeler heads64 --out l.csv",)),
    Case("portrait --crop", (f"edit {{p}} --crop --deg 15 {MESH}",)),
    *(Case(name, (f"edit {{c}}/{name} --deg 5 {MESH}",)) for name in
      ("adobe_r03.jpg", "gama.png", "cicp.png", "rights_300dpi.jpg", "pages.tif", "once.gif")),
    Case("ddpm-at-root", ("info {c}/ddpm-at-root",)),
    Case("no place for compiled code", (f"edit {{p}} --deg 5 {MESH}",), (("NUMBA_CACHE_DIR", "/dev/null/x"),)),
    Case("damaged compiled code", (
        f"edit {{p}} --deg 5 {MESH} --out a.png", "!find k -name '*.nb?' | while read f; do : > $f; done",
        f"edit {{p}} --deg 5 {MESH} --out b.png",
    ), (("NUMBA_CACHE_DIR", "k"),)),
    Case("stdout closed", (f"!$LATENTROT edit {{p}} --deg 5 {MESH} >&-",)),
    Case("stderr closed", (f"!$LATENTROT edit {{p}} --deg 5 {MESH} 2>&-",)),
    Case("python -m latentrot", (f'!"{sys.executable}" -m latentrot --version',)),
    Case("a second sweep, shorter", (f"edit {{p}} --sweep -10:10:5 {MESH} --out o",
                                     f"edit {{p}} --sweep -10:10:2 {MESH} --out o")),
    Case("one name in two folders", ("!mkdir a b && cp {p} a/p.jpg && cp {p} b/p.jpg", f"edit a/p.jpg --deg 5 {MESH}",
                                     f"edit b/p.jpg --deg -5 {MESH}")),
)  # fmt: skip


def tried(case: Case, inputs: Path) -> str:
    """One line of what came of a case."""
    home = Path(latentrot.__file__).parents[1]
    command = f'"{sys.executable}" -m latentrot.cli'
    environment = {**os.environ, "PYTHONPATH": str(home), "LATENTROT": command, **dict(case.environment)}
    with tempfile.TemporaryDirectory() as folder:
        codes, said = [], ""
        environment["XDG_STATE_HOME"] = f"{folder}/.state"
        for words in case.commands:
            line = words.format(c=inputs.resolve(), p=PORTRAIT)
            line = line[1:].replace("$LATENTROT", command) if line.startswith("!") else f"{command} {line}"
            done = subprocess.run(
                ["/bin/sh", "-c", line],
                cwd=folder,
                env=environment,
                capture_output=True,
                timeout=LONGEST_S,
                check=False,
            )
            codes.append(done.returncode)
            text = done.stderr.decode(errors="replace") + done.stdout.decode(errors="replace")
            said = "TRACEBACK " * ("Traceback" in text) + last_word(text)
        files = sorted(
            str(p.relative_to(folder)) for p in Path(folder).rglob("*") if p.is_file() and "/s/" not in str(p)
            and not {".state", "k"} & set(p.relative_to(folder).parts)
        )  # fmt: skip
    shown = ", ".join(files).encode("ascii", "backslashreplace").decode()
    return f"{case.name}: rc {'/'.join(map(str, codes))}; {shown or 'no file'}; {said}"


def last_word(text: str) -> str:
    """What a command said at its end: a note, or its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("note:", "latentrot:", "turned", "wrote", "embedded"))]
    return " | ".join(dict.fromkeys([*telling[:2], *lines[-1:]]))[:330].encode("ascii", "backslashreplace").decode()


def main() -> None:
    """Try every case, or those whose names hold a word."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("inputs", type=Path)
    parser.add_argument("--only", default="", help="cases whose names hold this")
    options = parser.parse_args()
    if shutil.which("/bin/sh") is None:
        raise SystemExit("needs /bin/sh")
    for case in CASES:
        if options.only in case.name:
            print(tried(case, options.inputs), flush=True)


if __name__ == "__main__":
    main()
