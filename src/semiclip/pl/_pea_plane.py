"""Views that PEA drew, and planes on which they can be looked at."""

from __future__ import annotations

from collections import Counter
from itertools import count, takewhile
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from semiclip._checks import read_representation
from semiclip.correction import fit
from semiclip.errors import MissingEntry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from semiclip.correction import PEA


class Views(NamedTuple):
    """Views of the samples that are looked at, and how often each plan was drawn."""

    values: np.ndarray  # (n_views, k, d)
    kept: np.ndarray  # (n_views, k), for example "center+scale"
    n_controls: np.ndarray  # (n_views, k)
    share: dict[str, float]  # of all views, by what was kept


class Plane(NamedTuple):
    """Two directions of a space, and what all controls make of the batches there; the first batch is looked at."""

    axes: np.ndarray
    """Towards the perturbation, and between batches (or along the controls of a single one); shape (d, 2)."""
    controls: list[list[np.ndarray]]
    """Controls of each batch on the plane, each (m, 2), with the centre dropped and with it subtracted."""
    samples: list[np.ndarray]
    """Samples of the first batch likewise, each (k, 2)."""


def read_views(adata: AnnData, views: str, rows: np.ndarray) -> Views:
    """Read the views of some rows, and of all rows what they kept."""
    numbered = takewhile(lambda name: name in adata.obsm, (f"{views}_{view}" for view in count(1)))
    names = [views] if views in adata.obsm else list(numbered)
    steps, controls = ([f"{name}_{column}" for name in names] for column in ("steps", "controls"))
    if not names or not {*steps, *controls} <= set(adata.obs):
        call = f"scl.pp.pea_correct(adata, …, stochastic=True, n_views=100, key_added={views!r})"
        raise MissingEntry(views, adata.obsm, "obsm with steps in obs", "views", f"draw some with {call}")
    part = adata[rows]
    tally: Counter[str] = Counter()
    for name in steps:
        tally.update(adata.obs[name].value_counts().to_dict())
    return Views(
        np.stack([read_representation(part, name, "views") for name in names]),
        np.stack([part.obs[name].astype(str) for name in steps]),
        np.stack([part.obs[name] for name in controls]),
        {kept: n / tally.total() for kept, n in tally.items() if n},
    )


def fit_plane(controls: Sequence[np.ndarray], samples: Sequence[np.ndarray], steps: tuple[str, ...], pea: PEA) -> Plane:
    """Fit the steps on all controls of each batch, without and with a centre, and choose what to look at.

    The first direction is that of the samples of the other batches, where there are any: among many dimensions,
    samples look far from the controls along a direction that was fitted on them.
    """
    most = pea.clip if pea.clip and steps else np.inf
    moved: list[list[np.ndarray]] = [[], []]
    treated: list[list[np.ndarray]] = [[], []]
    for pool, rows in zip(controls, samples, strict=True):
        # as PEA has it, the ridge is in units of the variance where nothing is scaled
        ridge = pea.ridge * (1.0 if "scale" in steps else float(pool.var(axis=0).mean()))
        for centred in (False, True):
            chain = fit(("center",) * centred + steps, pool, whiten={"ridge": ridge})
            moved[centred].append(chain(pool).clip(-most, most))
            treated[centred].append(chain(rows).clip(-most, most))
    replicates = [rows for rows in treated[1][1:] if len(rows)] or treated[1][:1]
    first = _scale_to_unit(np.concatenate(replicates).mean(axis=0))
    cloud = np.stack([pool.mean(axis=0) for pool in moved[0]]) if len(controls) > 1 else moved[1][0]
    cloud = cloud - cloud.mean(axis=0)
    cloud = cloud - np.outer(cloud @ first, first)
    second = np.linalg.svd(cloud, full_matrices=False)[2][0]
    second = _scale_to_unit(second - (second @ first) * first) * (1 if second @ cloud[0] >= 0 else -1)
    axes = np.stack([first, second], axis=1)
    return Plane(axes, [[pool @ axes for pool in pools] for pools in moved], [rows[0] @ axes for rows in treated])


def _scale_to_unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), np.finfo(np.float64).tiny)
