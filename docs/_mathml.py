"""Formulas as MathML, which browsers draw themselves: pages need no script from another host."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

logger = logging.getLogger(__name__)
LONG = 24  # characters of LaTeX that a line of a phone holds in any case


def convert(node: nodes.Element, *, as_block: bool = False) -> str:
    try:
        return tex2mathml(node.astext().strip(), as_block=as_block)
    except MathError as error:
        logger.warning("this formula cannot be converted to MathML: %s", error, location=node)
        return f"<code>{node.astext()}</code>"


def write_inline(translator: Any, node: nodes.math) -> None:
    # a formula does not break, so that a long one has a box of its own, which scrolls where it must
    formula = convert(node)
    translator.body.append(f'<span class="long math">{formula}</span>' if len(node.astext()) > LONG else formula)
    raise nodes.SkipNode


def write_block(translator: Any, node: nodes.math_block) -> None:
    anchor = f' id="{node["ids"][0]}"' if node["ids"] else ""
    translator.body.append(f'<div class="math"{anchor}>{convert(node, as_block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", inline_renderers=(write_inline, None), block_renderers=(write_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
