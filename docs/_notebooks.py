"""Downloads of the pages that are notebooks, as they were executed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxRole


def offer_notebook(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Add the notebook to the download button of its page."""
    notebook = Path(app.outdir).parent / "jupyter_execute" / f"{page}.ipynb"
    if doctree is not None and notebook.exists():
        copy = Path(app.outdir) / "_sources" / f"{page}.ipynb"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(notebook, copy)
        context["ipynb_source"] = f"{page}.ipynb"


class DownloadNotebook(SphinxRole):
    """A link to the notebook of a page in the same folder."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        folder = Path(self.env.docname).parent
        uri = "../" * (len(folder.parts)) + (Path("_sources") / folder / f"{self.text}.ipynb").as_posix()
        return [nodes.reference(self.rawtext, "download", refuri=uri, internal=True)], []


def setup(app: Any) -> dict[str, bool]:
    app.add_role("download-notebook", DownloadNotebook())
    app.connect("html-page-context", offer_notebook, priority=400)  # before the theme makes its buttons
    return {"parallel_read_safe": True, "parallel_write_safe": True}
