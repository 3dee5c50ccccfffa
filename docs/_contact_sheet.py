"""Each picture of ``semiclip.pl`` with 1, 9 and 30 names, short and long ones, on the page ``contact_sheet``.

What they show is what ``tests/pl/test_legibility.py`` tests, and comes from the same place, ``tests/pl/pictures.py``.
A build that runs no notebooks shows the pictures that are there.
"""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
from docutils import nodes
from matplotlib import pyplot as plt
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective

HERE = Path(__file__).parent
DRAWN = HERE / "generated" / "contact_sheet"
DPI = 80


def read_inputs() -> Any:
    """Import what makes the inputs, which lies among the tests and in no package."""
    spec = spec_from_file_location("semiclip_pictures", HERE.parent / "tests" / "pl" / "pictures.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def draw_cells(app: Any) -> None:
    """Draw every picture with each number and length of names."""
    if app.config.nb_execution_mode == "off":
        return
    DRAWN.mkdir(parents=True, exist_ok=True)
    for file in DRAWN.glob("*.png"):
        file.unlink()
    pictures = read_inputs()
    for name, draw in pictures.PICTURES.items():
        for n in pictures.NUMBERS:
            if (name, n) in pictures.LIMITS:
                continue
            for length in pictures.LENGTHS:
                drawn = draw(pictures.make_names(n, length))
                figure = np.ravel(np.array(drawn, dtype=object))[0].get_figure(root=True)
                figure.savefig(DRAWN / f"{name}_{n}_{length}.png", dpi=DPI)
                plt.close("all")


class ContactSheet(SphinxDirective):
    """All pictures, each with a link to its function."""

    def run(self) -> list[nodes.Node]:
        pictures = read_inputs()
        return [self.section(pictures, name) for name in sorted(pictures.PICTURES)]

    def section(self, pictures: Any, name: str) -> nodes.Node:
        target = {"refdomain": "py", "reftype": "func", "reftarget": f"semiclip.pl.{name}", "refexplicit": True}
        link = addnodes.pending_xref(
            "", nodes.literal(text=f"pl.{name}"), refdoc=self.env.docname, refwarn=True, **target
        )
        section = nodes.section("", nodes.title("", "", link), ids=[f"sheet-{name}"])
        for n in pictures.NUMBERS:
            for length in pictures.LENGTHS:
                file = f"{name}_{n}_{length}.png"
                caption = f"{n} {length} name{'s' * (n > 1)}"
                if (DRAWN / file).exists():
                    uri = f"/generated/contact_sheet/{file}"
                    alt = f"pl.{name} with {caption}"
                    section += [nodes.paragraph(text=caption), nodes.image(uri=uri, alt=alt, loading="lazy")]
        if refused := [str(n) for picture, n in pictures.LIMITS if picture == name]:
            section += nodes.paragraph(text=f"refused, with what to do instead: {', '.join(refused)} name")
        return section


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("contact-sheet", ContactSheet)
    app.connect("builder-inited", draw_cells, priority=110)  # after the pictures of the gallery
    return {"parallel_read_safe": True, "parallel_write_safe": True}
