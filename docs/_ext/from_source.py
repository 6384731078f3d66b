"""Sphinx extension that generates parts of the manual from the code.

Directives: `all-commands` writes a section with the help of every command; `public-names` writes the reference of all public
names of `latentrot`, grouped by part of the package; `measures` lists the measures of `evaluate`.

Files from other folders of the repository are included unchanged, except that their links lead to pages of the manual.
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
#: commands with subcommands that are not in `latentrot.cli.SUBCOMMANDS`
NESTED = {"heads": ("make", "import")}
#: headings of the reference, in the order of the parts of the package
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


#: files of the repository -> pages of the manual
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
    """Output of `latentrot COMMAND --help`."""
    from latentrot.cli import main  # noqa: PLC0415  slow to import

    printed = io.StringIO()
    plain = {"COLUMNS": str(COLUMNS), "NO_COLOR": "1", "TERM": "dumb"}
    with mock.patch.dict(os.environ, plain), contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([*command, "--help"])
    text = re.sub(r"\x1b\[[0-9;]*m", "", printed.getvalue())
    return "\n".join(line.rstrip() for line in text.splitlines()).strip()


def all_commands() -> list[tuple[str, ...]]:
    """All commands, each followed by its subcommands."""
    from latentrot.cli import COMMANDS, SUBCOMMANDS  # noqa: PLC0415

    further = {name: (*NESTED.get(name, ()), *SUBCOMMANDS.get(name, ())) for name in COMMANDS}
    return [c for name in COMMANDS for c in [(name,), *((name, sub) for sub in further[name])]]


def public_names() -> dict[str, list[str]]:
    """Part of the package -> its public names."""
    import latentrot  # noqa: PLC0415

    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for name in latentrot.__all__:
        if name != "__version__":
            part = getattr(latentrot, name).__module__.split(".")[1]
            parts[part].append(name)
    return {part: names for part, names in parts.items() if names}


class AllCommands(SphinxDirective):
    """Directive that writes a section with the help of every command."""

    def run(self) -> list[nodes.Node]:
        """Return one section per command."""
        return [self.section(command) for command in all_commands()]

    def section(self, command: tuple[str, ...]) -> nodes.section:
        """Section of a command: heading and help."""
        title = "latentrot " + " ".join(command)
        section = nodes.section(ids=[nodes.make_id("-".join(command))], names=[title])
        text = help_of(*command)
        section += [nodes.title(text=title), nodes.literal_block(text, text, language="text", classes=["help"])]
        return section


class PublicNames(SphinxDirective):
    """Directive that writes the reference of the public names, one section per part of the package."""

    def run(self) -> list[nodes.Node]:
        """Return one section per part."""
        return [self.section(part, names) for part, names in public_names().items()]

    def section(self, part: str, names: list[str]) -> nodes.section:
        """Section of a part: heading and entries."""
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
    """Directive that lists the measures of `evaluate` with their descriptions."""

    def run(self) -> list[nodes.Node]:
        """Return the list."""
        from latentrot.evaluation.measure import MEASURES  # noqa: PLC0415

        items = []
        for name, meaning in MEASURES.items():
            term = nodes.term("", "", nodes.literal(text=name))
            items.append(nodes.definition_list_item("", term, nodes.definition("", nodes.paragraph(text=meaning))))
        return [nodes.definition_list("", *items)]


def adapt_included(app: Sphinx, path: Path, parent: str, content: list[str]) -> None:
    """Remove the front matter of an included file, and adapt its links to the page that includes it."""
    source = (Path(app.srcdir) / path).resolve()
    if source.suffix != ".md":
        return
    page = Path(app.srcdir) / app.env.docname  # MyST passes only the last part of the name
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
    """Register the extension with Sphinx."""
    app.add_directive("all-commands", AllCommands)
    app.add_directive("public-names", PublicNames)
    app.add_directive("measures", Measures)
    app.connect("include-read", adapt_included)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
