"""Embeddings that know nothing of the genes, to judge the others by."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from semiclip.errors import BadValue, UnknownChoice

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from semiclip.tl._maps import Corrected

RecallBaseline = Literal["permuted", "normal", "uniform"]


def check_baselines(baselines: Sequence[str], kinds: Any) -> None:
    """Refuse what is no list of the names in a ``Literal``."""
    choices = get_args(kinds)
    if isinstance(baselines, str):
        raise BadValue("baselines", baselines, f"a list of some of {', '.join(choices)}")
    if unknown := [name for name in baselines if name not in choices]:
        raise UnknownChoice("baselines", unknown[0], choices)


def exchange_perturbations(corrected: Corrected, rng: np.random.Generator) -> Corrected:
    """Return the treated rows with their perturbations exchanged; each perturbation keeps its number of rows."""
    codes, treated = corrected.codes.copy(), corrected.treated
    codes[treated] = rng.permutation(codes[treated])
    return replace(corrected, name=f"{corrected.name} (permuted)", codes=codes)


def draw_values(corrected: Corrected, kind: RecallBaseline, rng: np.random.Generator) -> Corrected:
    """Return random values in place of the representation, normal or, as in the paper, uniform between 0 and 1."""
    shape = corrected.x.shape
    x = rng.standard_normal(shape) if kind == "normal" else rng.random(shape)
    return replace(corrected, name=f"random ({kind})", x=x, rank=shape[1])
