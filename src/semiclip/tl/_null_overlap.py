from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from semiclip import datasets
from semiclip.metrics._cosine import pairwise_cosines
from semiclip.metrics._map import gene_map, pairs_of_thresholds
from semiclip.metrics._null_overlap import distinct_pairs, recalled, recalled_elsewhere
from semiclip.tl._baselines import permuted
from semiclip.tl._maps import corrected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from semiclip.correction import Fallback, Method, Profile

THRESHOLDS = ((0.05, 0.95), (0.1, 0.9), (0.15, 0.85), (0.2, 0.8), (0.25, 0.75))


def null_overlap(
    adata: AnnData,
    *,
    use_rep: str,
    references: str | Sequence[str] | Mapping[str, AnnData],
    perturbation_key: str,
    control: str | Sequence[str] | None,
    batch_key: str | None = None,
    relationships: pd.DataFrame | None = None,
    method: Method | None = "tvn",
    profile: Profile = "clean",
    ridge: float | None = None,
    fallback: Fallback = "raise",
    thresholds: tuple[float, float] | Sequence[tuple[float, float]] = THRESHOLDS,
    n_permutations: int = 100,
    rng: int | np.random.Generator | None = None,
    progress_bar: bool = True,
) -> pd.DataFrame:
    """Compare the pairs that two representations both recall with those after exchanging the perturbations of the rows.

    The rows of one representation, corrected and without the controls, exchange their perturbations at random before
    they are averaged; each perturbation keeps its number of rows. What the map of such rows and a reference both recall
    is the overlap that chance gives (paper Figures 6 and 7).

    Parameters
    ----------
    adata
        Observations of genetic perturbations.
    use_rep
        Key of ``obsm`` (or ``"X"``), the representation whose rows exchange their perturbations.
    references
        Key or keys of ``obsm`` of the representations to compare with, or a mapping of such keys to the AnnData that
        hold them, as for images, whose observations are others. They share no more than the genes.
    perturbation_key, control, batch_key, relationships, method, profile, ridge, fallback
        As in :func:`recall`, and the same for each AnnData.
    thresholds
        Low and high quantile beyond which a pair is recalled, or several such pairs; all are read off the same maps.
    n_permutations
        Number of exchanges, at least 1; 100 or more for a p-value of 0.01.
    rng
        Seed or generator of the exchanges.
    progress_bar
        Whether to show the progress of the exchanges.

    Returns
    -------
    One row per reference and pair of thresholds: ``representation``, ``reference``, ``threshold_low``,
    ``threshold_high``, ``n_recalled`` and ``n_reference`` (the pairs that each recalls, over all databases together),
    ``n_pairs`` (the annotated pairs that both maps hold), ``overlap`` (the pairs that both recall), ``null_mean``,
    ``null_low``, ``null_median`` and ``null_high`` (mean and 2.5 %, 50 % and 97.5 % quantiles of the overlap over the
    exchanges), ``p_value`` ((1 + the number of exchanges with at least this overlap) / (1 + ``n_permutations``)) and
    ``n_permutations``.

    Raises
    ------
    KeyError, TypeError, ValueError
        As in :func:`recall`, or if no reference is named, a reference shares no annotated pair with ``use_rep``, or
        ``n_permutations`` is less than 1.

    Notes
    -----
    The null hypothesis is that the representation knows nothing of the perturbations. One that recalls more annotated
    pairs than chance shares more of them with any reference, even with one that knows nothing: that two representations
    agree beyond that takes an overlap of more than ``n_recalled * n_reference / n_pairs``. (Where one map lacks genes
    of the other, compare them on the genes of both: ``n_recalled`` and ``n_reference`` count pairs of each whole map.)

    Each exchange takes the time of one map of the genes: their means and the cosines of all pairs.

    References
    ----------
    Bendidi et al., ICML 2025, Figures 6 and 7, DOI 10.48550/arXiv.2505.21317; the p-value: Phipson and Smyth 2010, DOI
    10.2202/1544-6115.1585.

    Examples
    --------
    >>> import anndata
    >>> import numpy as np
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> rng = np.random.default_rng(0)
    >>> genes = [f"G{i:02}" for i in range(40)] * 2
    >>> adata = anndata.AnnData(obs=pd.DataFrame({"gene": genes}, index=[f"well{i}" for i in range(80)]))
    >>> complexes = np.tile(np.repeat(rng.normal(size=(20, 8)), 2, axis=0), (2, 1))
    >>> adata.obsm["X_pca"] = complexes + rng.normal(size=(80, 8))
    >>> adata.obsm["X_semiclip"] = complexes + rng.normal(size=(80, 8))
    >>> known = pd.DataFrame({"gene_a": genes[0:40:2], "gene_b": genes[1:40:2]})
    >>> table = scl.tl.null_overlap(
    ...     adata,
    ...     use_rep="X_semiclip",
    ...     references="X_pca",
    ...     perturbation_key="gene",
    ...     control=None,
    ...     relationships=known,
    ...     method=None,
    ...     thresholds=[(0.05, 0.95), (0.1, 0.9)],
    ...     rng=0,
    ...     progress_bar=False,
    ... )
    >>> table[["reference", "threshold_low", "overlap", "null_median", "p_value"]].round(2)
      reference  threshold_low  overlap  null_median  p_value
    0     X_pca           0.05       13          1.0     0.01
    1     X_pca           0.10       13          2.0     0.01
    """
    if isinstance(n_permutations, bool) or not isinstance(n_permutations, int | np.integer) or n_permutations < 1:
        msg = f"n_permutations={n_permutations} must be a whole number of at least 1; 100 or more are advised"
        raise ValueError(msg)
    if not isinstance(use_rep, str):
        msg = f"use_rep={use_rep!r} is not one key of obsm; call once for each representation"
        raise TypeError(msg)
    if isinstance(references, Mapping):
        sources = dict(references)
    else:
        sources = dict.fromkeys([references] if isinstance(references, str) else references, adata)
    if not sources:
        msg = "references names no representation; pass a key of obsm, a list of them, or a mapping of keys to AnnData"
        raise ValueError(msg)
    levels = pairs_of_thresholds(thresholds)
    how: dict[str, Any] = {"method": method, "profile": profile, "ridge": ridge, "fallback": fallback}
    how |= {"perturbation_key": perturbation_key, "control": control, "batch_key": batch_key}
    asked = [corrected(data, key, **how) for key, data in [(use_rep, adata), *sources.items()]]
    known = datasets.relationships() if relationships is None else relationships

    rows = next(asked[0])
    means, genes = rows.means()
    found = gene_map(means, genes, known)
    order = pd.Index(genes).get_indexer(found.genes)
    pairs = distinct_pairs(found)
    own = recalled(found, pairs, levels)
    theirs = np.empty((len(sources), *own.shape), dtype=bool)
    n_reference = np.empty((len(sources), len(levels)), dtype=np.intp)
    n_pairs = np.empty(len(sources), dtype=np.intp)
    for i, reference in enumerate(asked[1:]):
        other = gene_map(*next(reference).means(), known)
        theirs[i], n_reference[i], n_pairs[i] = recalled_elsewhere(other, found, pairs, levels)
    overlap = (own & theirs).sum(axis=1)

    from tqdm.auto import tqdm

    rng = np.random.default_rng(rng)
    draws = np.empty((n_permutations, *overlap.shape), dtype=np.intp)
    for draw in tqdm(draws, "permutations", disable=not progress_bar):
        means, _ = permuted(rows, rng).means()
        null = found._replace(cosines=pairwise_cosines(means[order]))  # the annotated pairs stay where they are
        draw[:] = (recalled(null, pairs, levels) & theirs).sum(axis=1)

    low, median, high = np.quantile(draws, [0.025, 0.5, 0.975], axis=0)
    table = pd.DataFrame(
        [(use_rep, key, *level) for key in sources for level in levels],
        columns=["representation", "reference", "threshold_low", "threshold_high"],
    )
    return table.assign(
        n_recalled=np.tile(own.sum(axis=0), len(sources)),
        n_reference=n_reference.ravel(),
        n_pairs=n_pairs.repeat(len(levels)),
        overlap=overlap.ravel(),
        null_mean=draws.mean(axis=0).ravel(),
        null_low=low.ravel(),
        null_median=median.ravel(),
        null_high=high.ravel(),
        p_value=((1 + (draws >= overlap).sum(axis=0)) / (1 + n_permutations)).ravel(),
        n_permutations=n_permutations,
    )
