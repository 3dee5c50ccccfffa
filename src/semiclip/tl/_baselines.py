"""Embeddings that know nothing of the genes, to judge the others by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from semiclip._checks import some

if TYPE_CHECKING:
    from collections.abc import Sequence

    from semiclip.tl._maps import Corrected

Baseline = Literal["permuted", "normal", "uniform"]
BASELINES: tuple[Baseline, ...] = ("permuted", "normal", "uniform")


def check_baselines(baselines: Sequence[str], known: Sequence[str] = BASELINES) -> None:
    """Refuse a baseline that does not exist."""
    if isinstance(baselines, str) or (unknown := [name for name in baselines if name not in known]):
        wrong = repr(baselines) if isinstance(baselines, str) else some(map(repr, unknown))
        msg = f"baselines: {wrong} is not a list of some of {some(map(repr, known))}"
        raise ValueError(msg)


def permuted(found: Corrected, rng: np.random.Generator) -> Corrected:
    """Exchange the perturbations of the treated rows; controls keep theirs, and every group its size."""
    codes = found.codes.copy()
    rows = np.flatnonzero(found.treated[codes])
    codes[rows] = rng.permutation(codes[rows])
    return found._replace(name=f"{found.name} (permuted)", codes=codes)


def random(found: Corrected, kind: Baseline, rng: np.random.Generator) -> Corrected:
    """Draw as many values as the representation has, around zero or, as in the paper's baseline, all positive."""
    x = rng.standard_normal(found.x.shape) if kind == "normal" else rng.random(found.x.shape)
    return found._replace(name=f"random ({kind})", x=x, rank=x.shape[1])
