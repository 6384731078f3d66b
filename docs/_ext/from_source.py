"""What the manual takes from the code while it is built: the commands' help and the public names.

Directives: `all-commands` writes a section for every command with the help it prints; `public-names` writes the reference
of everything `import latentrot` offers, grouped by the part of the package it comes from; `measures` lists what `evaluate`
measures.

Files from elsewhere in the repository are included as they are; their links are made to lead to the manual's own pages.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from pathlib import Path
from unittest import mock

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

COLUMNS = 80
#: commands that have commands of their own beside those of `latentrot.cli.FURTHER`
NESTED = {"heads": ("make", "import")}
#: headings of the reference, in the order of the package's parts
PARTS = {
    "errors": "Errors",
    "portrait": "A photograph from end to end",
    "data": "Images",
    "faces": "What an image shows",
    "diffusion": "Diffusion models, images to latents and back",
    "store": "Latents on disk",
    "directions": "Directions",
    "rotators": "Rotators",
    "evaluation": "Measuring",
}


#: files of the repository that are pages of the manual
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "experiments/README.md": "explain/experiments.md",
    "data_labels/README.md": "reference/labels.md",
}
LINK = re.compile(r"(!?\[[^\]]*\])\(([^)#\s]+)(#[^)\s]*)?\)")
REPOSITORY = Path(__file__).resolve().parents[2]


def help_of(*command: str) -> str:
    """What `latentrot COMMAND --help` prints."""
    from latentrot.cli import main  # noqa: PLC0415  slow, and only when the manual is built

    printed = io.StringIO()
    plain = {"COLUMNS": str(COLUMNS), "NO_COLOR": "1", "TERM": "dumb"}
    with mock.patch.dict(os.environ, plain), contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([*command, "--help"])
    text = re.sub(r"\x1b\[[0-9;]*m", "", printed.getvalue())
    return "\n".join(line.rstrip() for line in text.splitlines()).strip()


def all_commands() -> list[tuple[str, ...]]:
    """Every command, and those of the nested ones after them."""
    from latentrot.cli import COMMANDS, FURTHER  # noqa: PLC0415

    further = {name: (*NESTED.get(name, ()), *FURTHER.get(name, ())) for name in COMMANDS}
    return [c for name in COMMANDS for c in [(name,), *((name, sub) for sub in further[name])]]


def public_names() -> dict[str, list[str]]:
    """The public names with the modules they live in, by part of the package."""
    import latentrot  # noqa: PLC0415

    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for name in latentrot.__all__:
        if name != "__version__":
            part = getattr(latentrot, name).__module__.split(".")[1]
            parts[part].append(name)
    return {part: names for part, names in parts.items() if names}


class AllCommands(SphinxDirective):
    """A section for every command: its help, as printed."""

    def run(self) -> list[nodes.Node]:
        """One section a command."""
        return [self.section(command) for command in all_commands()]

    def section(self, command: tuple[str, ...]) -> nodes.section:
        """Heading and help."""
        title = "latentrot " + " ".join(command)
        section = nodes.section(ids=[nodes.make_id("-".join(command))], names=[title])
        text = help_of(*command)
        section += [nodes.title(text=title), nodes.literal_block(text, text, language="text", classes=["help"])]
        return section


class PublicNames(SphinxDirective):
    """A section for every part of the package: the reference of its public names."""

    def run(self) -> list[nodes.Node]:
        """One section a part."""
        return [self.section(part, names) for part, names in public_names().items()]

    def section(self, part: str, names: list[str]) -> nodes.section:
        """Heading and entries."""
        import latentrot  # noqa: PLC0415

        section = nodes.section(ids=[f"part-{part}"], names=[part])
        section += nodes.title(text=PARTS[part])
        lines = ["```{eval-rst}"]
        for name in names:
            kind = "autoclass" if isinstance(getattr(latentrot, name), type) else "autofunction"
            kind = "autoexception" if name.endswith("Error") else kind
            lines += [f".. {kind}:: latentrot.{name}", ""]
        lines.append("```")
        self.state.nested_parse(StringList(lines, source=f"latentrot.{part}"), 0, section)
        return section


class Measures(SphinxDirective):
    """What `evaluate` measures: a list of names and meanings."""

    def run(self) -> list[nodes.Node]:
        """One list."""
        from latentrot.evaluation.measure import MEASURES  # noqa: PLC0415

        items = []
        for name, meaning in MEASURES.items():
            term = nodes.term("", "", nodes.literal(text=name))
            items.append(nodes.definition_list_item("", term, nodes.definition("", nodes.paragraph(text=meaning))))
        return [nodes.definition_list("", *items)]


def adapt_included(app: Sphinx, path: Path, parent: str, content: list[str]) -> None:
    """A file from elsewhere in the repository: without front matter, and with links that hold from where it is shown."""
    source = (Path(app.srcdir) / path).resolve()
    if source.suffix != ".md":
        return
    page = Path(app.srcdir) / app.env.docname  # MyST gives the last part of the name only
    text = re.sub(r"\A---\n.*?\n---\n", "", content[0], flags=re.DOTALL)

    def led(match: re.Match[str]) -> str:
        words, target, anchor = match.groups()
        there = (source.parent / target).resolve()
        if ":" in target or not there.exists():
            return match[0]
        inside = there.relative_to(REPOSITORY).as_posix()
        there = Path(app.srcdir) / PAGES[inside] if inside in PAGES else there
        return f"{words}({os.path.relpath(there, page.parent)}{anchor or ''})"

    content[0] = LINK.sub(led, text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx's entry."""
    app.add_directive("all-commands", AllCommands)
    app.add_directive("public-names", PublicNames)
    app.add_directive("measures", Measures)
    app.connect("include-read", adapt_included)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
