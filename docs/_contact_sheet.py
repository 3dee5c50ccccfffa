"""Writes contact sheets: a page for each picture of ``semiclip.pl``, with 1, 9 and 30 names, short and long ones.

``python docs/_contact_sheet.py FOLDER`` writes ``index.html``, a page and six PNG for each picture. What they show is what
``tests/pl/test_legibility.py`` tests, and comes from the same place, ``tests/pl/pictures.py``.
"""

from __future__ import annotations

import sys
from html import escape
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

INPUTS = Path(__file__).parents[1] / "tests" / "pl" / "pictures.py"
DPI = 90
STYLE = """body { font-family: sans-serif; margin: 2rem; } figure { margin: 0 0 2rem; overflow-x: auto; }
img { border: 1px solid #ccc; } figcaption { margin-bottom: .4rem; }"""


def main(out: str | Path) -> None:
    """Write all sheets to a folder, which is made if it is not there."""
    import matplotlib as mpl

    folder, pictures = Path(out), _read_inputs()
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(mpl.rcParamsDefault | {"backend": mpl.rcParams["backend"]}):
        for name in pictures.PICTURES:
            cells = "\n".join(_draw_cells(pictures, name, folder))
            _write_page(folder / f"{name}.html", f"pl.{name} with few and many names", cells)
    links = "".join(f'<li><a href="{name}.html">pl.{name}</a></li>' for name in pictures.PICTURES)
    _write_page(folder / "index.html", "Pictures with few and many names", f"<ul>{links}</ul>")


def _read_inputs() -> ModuleType:
    """Import what makes the inputs, which lies among the tests and in no package."""
    spec = spec_from_file_location("semiclip_pictures", INPUTS)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _draw_cells(pictures: Any, name: str, folder: Path) -> Iterator[str]:
    """Draw a picture with each number and length of names, and return what shows it on a page."""
    import numpy as np
    from matplotlib import pyplot as plt

    for n in pictures.NUMBERS:
        for length in pictures.LENGTHS:
            caption = f"{n} {length} name{'s' * (n > 1)}"
            try:
                drawn = pictures.PICTURES[name](pictures.make_names(n, length))
            except ValueError as error:
                if (name, n) not in pictures.LIMITS:
                    raise
                yield f"<figure><figcaption>{caption}</figcaption><code>{escape(str(error))}</code></figure>"
                continue
            figure = np.ravel(np.array(drawn, dtype=object))[0].get_figure(root=True)
            file = f"{name}_{n}_{length}.png"
            figure.savefig(folder / file, dpi=DPI)
            plt.close(figure)
            picture = f'<img src="{file}" alt="pl.{name}, {caption}" loading="lazy">'
            yield f"<figure><figcaption>{caption}</figcaption>{picture}</figure>"


def _write_page(path: Path, title: str, body: str) -> None:
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    path.write_text(f'<!doctype html><html lang="en"><head>{head}</head><body><h1>{title}</h1>{body}</body></html>')


if __name__ == "__main__":
    main(sys.argv[1])
