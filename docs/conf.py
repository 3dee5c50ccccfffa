"""Sphinx settings; build with ``sphinx-build -W --keep-going docs docs/_build/html``."""

from __future__ import annotations

import os
import sys
import warnings
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from docutils import nodes
from numpy.typing import ArrayLike
from sphinx import addnodes
from sphinx.ext.autosummary import Autosummary

sys.path.insert(0, str(Path(__file__).parent))
from _examples import wrap_examples

project = "semiclip"
author = "The semiclip developers"
project_copyright = f"2025, {author}"
version = release = installed("semiclip")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_autodoc_typehints",  # after napoleon, whose sections it fills with the types of the signature
    "sphinx_copybutton",
    "_gallery",
    "_contact_sheet",
    "_mathml",
    "_notebooks",
]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]

html_theme = "sphinx_book_theme"
html_title = "semiclip"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_context = {"default_mode": "auto"}
html_math_renderer = "mathml"
html_theme_options = {
    "repository_url": "https://github.com/semiclip/semiclip",
    "use_repository_button": True,
    "path_to_docs": "docs",
    "navbar_persistent": [],  # the sidebar has a search box
    "show_toc_level": 2,
}
toc_object_entries_show_parents = "hide"

myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"  # a cache would keep outputs of older code: it looks at the notebook alone
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_ipywidgets_js = {}  # progress bars are not shown, and need scripts of another host
os.environ.pop("MPLBACKEND", None)  # a notebook shows its pictures by a backend of its own
if not {"READTHEDOCS", "SEMICLIP_DATA_DIR"} & set(os.environ):
    # they need the published files, or a network
    nb_execution_excludepatterns = ["tutorials/evaluation.md", "tutorials/near_my_gene.md"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # sphinx_autodoc_typehints writes them
napoleon_google_docstring = False
napoleon_use_ivar = True  # a list of attributes, not an entry for each
napoleon_use_rtype = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def public_module(module: str) -> str:
    """Drop private parts, so that a type is linked where its package shows it."""
    public = module.split("._")[0]
    return "pandas" if public.startswith("pandas.core") else public


def name_of_alias(annotation: Any, config: Any) -> str | None:
    """Write ``ArrayLike`` instead of the long union that it stands for."""
    return ":py:data:`~numpy.typing.ArrayLike`" if annotation == ArrayLike else None


def write_returns_as_prose(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Make a field of a section Returns, whose every line napoleon would take for a type."""
    for start, line in enumerate(lines[:-1]):
        if line.strip() == "Returns" and set(lines[start + 1].strip()) == {"-"}:
            rest = range(start + 2, len(lines))
            ends = [i - 1 for i in rest if lines[i].strip() and set(lines[i].strip()) == {"-"}]
            end = ends[0] if ends else len(lines)
            field = [
                ":returns: " + lines[start + 2],
                *("    " + text if text else "" for text in lines[start + 3 : end]),
            ]
            lines[start:end] = ["", *field, ""]  # two empty lines end the section before
            return


def shorten_links(app: Any, doctree: Any) -> None:
    """Show ``tl.recall()``, as it is called after ``import semiclip as scl``, for a link to ``semiclip.tl.recall``."""
    for link in doctree.findall(addnodes.pending_xref):
        for text in list(link.findall(nodes.Text)):
            if not link.get("refexplicit") and text.startswith("semiclip."):
                text.parent.replace(text, nodes.Text(text.removeprefix("semiclip.")))


class Summary(Autosummary):
    """A table of names and what they are; signatures are on the page of each."""

    def run(self) -> list[nodes.Node]:
        self.options.setdefault("nosignatures", None)
        return super().run()


def setup(app: Any) -> None:
    """Change docstrings before napoleon, whose priority is 500."""
    app.connect("autodoc-process-docstring", write_returns_as_prose, priority=400)
    app.connect("autodoc-process-docstring", wrap_examples, priority=460)
    app.connect("doctree-read", shorten_links)
    app.add_directive("autosummary", Summary, override=True)


typehints_fixup_module_name = public_module
typehints_formatter = name_of_alias
warnings.filterwarnings("ignore", message=".*_RstSnippetParser")  # sphinx-autodoc-typehints, on its way to Sphinx 10
suppress_warnings = ["config.cache"]  # the functions above cannot be pickled, so that pages are always rebuilt

nitpicky = True
# only the names of other packages: they resolve through the inventories below, which need a network. Names of this
# package must always resolve.
nitpick_ignore_regex = [
    (
        "py:.*",
        r"(anndata|collections|lightning|matplotlib|mudata|numpy|os|pandas|pathlib|scanpy|scipy|scvi|sklearn|torch|typing)\..*",
    ),
    ("py:.*", r"bool|bytes|complex|dict|Ellipsis|float|int|list|None|object|set|str|tuple|type"),
]
if "READTHEDOCS" in os.environ:
    intersphinx_mapping = {
        "anndata": ("https://anndata.readthedocs.io/en/stable/", None),
        "matplotlib": ("https://matplotlib.org/stable/", None),
        "mudata": ("https://mudata.readthedocs.io/en/latest/", None),
        "numpy": ("https://numpy.org/doc/stable/", None),
        "pandas": ("https://pandas.pydata.org/docs/", None),
        "python": ("https://docs.python.org/3/", None),
        "scipy": ("https://docs.scipy.org/doc/scipy/", None),
        "scvi": ("https://docs.scvi-tools.org/en/stable/", None),
        "torch": ("https://docs.pytorch.org/docs/stable/", None),
    }
