"""Pictures of the functions of ``pl``, drawn while the site is built.

``pictures/<function>.py`` draws one on the study of ``numbers/study.py``. Without such a file, the example in the
function's docstring draws it. A function without a picture is a warning, and so fails a strict build.
"""

from __future__ import annotations

import contextlib
import doctest
import inspect
import io
import logging as standard_logging
import re
import warnings
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

from docutils import nodes
from matplotlib import pyplot as plt
from sphinx import addnodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

import semiclip as scl

HERE = Path(__file__).parent
DRAWN = HERE / "generated" / "pictures"
DPI = 192  # twice that of a screen
logger = logging.getLogger(__name__)


def snippet(name: str) -> str:
    """Return the code of a picture that has a file, or else nothing."""
    file = HERE / "pictures" / f"{name}.py"
    return file.read_text(encoding="utf-8") if file.exists() else ""


def read_example(name: str) -> str:
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(getattr(scl.pl, name)) or "")
    return "".join(example.source for example in examples)


def read_summary(name: str) -> str:
    return (inspect.getdoc(getattr(scl.pl, name)) or "").split("\n\n")[0].replace("\n", " ")


def read_width(name: str) -> int:
    """Return the width of a picture on the page, in pixels."""
    return int.from_bytes((DRAWN / f"{name}.png").read_bytes()[16:20], "big") * 96 // DPI


def draw_pictures(app: Any) -> None:
    """Draw every picture; a build that runs no notebooks keeps those that are there."""
    DRAWN.mkdir(parents=True, exist_ok=True)
    for file in DRAWN.glob("*.png"):
        if app.config.nb_execution_mode != "off" or file.stem not in scl.pl.__all__:
            file.unlink()
    missing = [name for name in scl.pl.__all__ if not (DRAWN / f"{name}.png").exists()]
    standard_logging.getLogger("lightning.pytorch").setLevel("ERROR")
    study: dict[str, Any] = {}
    said = io.StringIO()
    with (
        contextlib.chdir(HERE.parent),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        if missing:
            exec((HERE / "numbers" / "study.py").read_text(encoding="utf-8"), study)
        for name in missing:
            plt.close("all")
            try:
                exec(compile(snippet(name) or read_example(name), f"picture of pl.{name}", "exec"), {**study})
            except Exception as error:  # noqa: BLE001 - the others are drawn, and the build says which one failed
                logger.warning("the picture of pl.%s failed: %r", name, error)
            if numbers := plt.get_fignums():
                plt.figure(numbers[-1]).savefig(DRAWN / f"{name}.png", dpi=DPI, bbox_inches="tight", facecolor="white")
            else:
                logger.warning("pl.%s has no picture: write docs/pictures/%s.py, or an example that draws", name, name)
        plt.close("all")


def show_picture(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Put the picture of a function before its parameters, and the code that drew it among its examples."""
    module, _, function = name.rpartition(".")
    if module != "semiclip.pl" or not (DRAWN / f"{function}.png").exists():
        return
    picture = [f".. image:: /generated/pictures/{function}.png", f"   :alt: what pl.{function} draws"]
    picture += ["   :class: picture", f"   :width: {read_width(function)}px", ""]
    code = snippet(function)
    if code:
        source = "of runs that the repository keeps" if "benchmarks/" in code else "of :ref:`a small study <study>`"
        lines += ["", f"The picture above, {source}:", "", ".. code-block:: python", ""]
        lines += ["   " + line for line in code.splitlines()]
    else:
        picture += ["The example below draws it.", ""]
    headings = [i for i, line in enumerate(lines[:-1]) if re.match(r"\w", line) and re.match("---+$", lines[i + 1])]
    start = headings[0] if headings else len(lines)
    lines[start:start] = ["", *picture]


def group_functions() -> dict[str, list[str]]:
    """Return the functions under the words that introduce them on the page of the API."""
    page = (HERE / "api.md").read_text(encoding="utf-8")
    section = page.partition(".. module:: semiclip.pl\n")[2].partition("\n## ")[0]
    groups: dict[str, list[str]] = {}
    for line in section.splitlines():
        if line.endswith(":") and line[0].isalpha():
            groups[line[:-1]] = []
        elif line.strip() in scl.pl.__all__ and groups:
            list(groups.values())[-1].append(line.strip())
    listed = {name for names in groups.values() for name in names}
    for name in scl.pl.__all__:
        if name not in listed:
            logger.warning("pl.%s has no line in docs/api.md", name)
    return groups


class Gallery(SphinxDirective):
    """All pictures in the order of the API, each with a link to its function."""

    def run(self) -> list[nodes.Node]:
        content: list[nodes.Node] = []
        for title, names in group_functions().items():
            cards = nodes.container(classes=["gallery"])
            cards += [self.card(name) for name in names if (DRAWN / f"{name}.png").exists()]
            content.append(nodes.section("", nodes.title(text=title), cards, ids=[nodes.make_id(title)]))
        return content

    def card(self, name: str) -> nodes.Node:
        image = nodes.image(uri=f"/generated/pictures/{name}.png", alt=f"what pl.{name} draws")
        title = nodes.literal(text=f"pl.{name}")
        card = nodes.container(classes=["gallery-card"])
        card += [nodes.paragraph("", "", self.link(name, image)), nodes.paragraph("", "", self.link(name, title))]
        card += nodes.paragraph(text=read_summary(name).replace("``", ""))
        return card

    def link(self, name: str, content: nodes.Node) -> nodes.Node:
        target = {"refdomain": "py", "reftype": "func", "reftarget": f"semiclip.pl.{name}", "refexplicit": True}
        return addnodes.pending_xref("", content, refdoc=self.env.docname, refwarn=True, **target)


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("gallery", Gallery)
    app.connect("builder-inited", draw_pictures, priority=100)  # before autosummary reads the docstrings
    app.connect("autodoc-process-docstring", show_picture, priority=450)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
