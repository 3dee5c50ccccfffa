from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from semiclip import datasets, metrics
from semiclip.metrics._map import pairs_of_thresholds
from semiclip.tl._baselines import check_baselines, permuted, random
from semiclip.tl._maps import corrected

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anndata import AnnData

    from semiclip.correction import Fallback, Method, Profile
    from semiclip.metrics._map import Thresholds
    from semiclip.tl._baselines import Baseline
    from semiclip.tl._maps import Corrected


def recall(
    adata: AnnData,
    *,
    use_rep: str | Sequence[str],
    perturbation_key: str,
    control: str | Sequence[str] | None,
    batch_key: str | None = None,
    relationships: pd.DataFrame | None = None,
    method: Method | None = "tvn",
    profile: Profile = "clean",
    ridge: float | None = None,
    fallback: Fallback = "raise",
    thresholds: Thresholds = (0.05, 0.95),
    baselines: Sequence[Baseline] = (),
    n_permutations: int = 0,
    rng: int | np.random.Generator | None = None,
) -> pd.DataFrame:
    """Measure how many known gene relationships each representation recalls (paper B.1).

    Each representation is corrected on the controls, the controls are dropped, the rows of each perturbation are
    averaged, and the cosines of all pairs of perturbations are compared with annotated gene pairs; see
    :func:`semiclip.metrics.relationship_recall`.

    Parameters
    ----------
    adata
        Observations of genetic perturbations.
    use_rep
        Key or keys of ``obsm`` (or ``"X"``).
    perturbation_key
        Column of ``obs`` with the perturbed gene, labelled as in ``relationships``.
    control
        Label or labels in that column that mark controls. ``None`` says that there are none: then every row is a
        reference of the correction and no row is dropped.
    batch_key
        Column of ``obs`` with the batch; without it all rows are one batch.
    relationships
        Annotated pairs, columns ``gene_a``, ``gene_b`` and, optionally, ``database``. By default the five databases
        of ``scl.datasets.relationships()``.
    method, profile, ridge, fallback
        Correction, see :func:`semiclip.correction.correct`; ``method=None`` takes the representation as it is. The
        paper's numbers are in the profile ``"public"``, that of EFAAR_benchmarking; ``"batch"`` takes a ``ridge``
        unless each batch has many more controls than the representation has dimensions.
    thresholds, n_permutations, rng
        As in :func:`semiclip.metrics.relationship_recall`. With an integer ``rng`` all representations meet the
        same exchanges of labels. These take every gene for alike: where annotated genes have more replicates than
        others, look at the baseline ``"permuted"`` too, which keeps their numbers.
    baselines
        Embeddings that know nothing, which get rows of their own: ``"permuted"``, each representation after one
        exchange of the perturbations of its treated rows, the fairest; ``"normal"``, random values around zero; and
        ``"uniform"``, random values between zero and one, the paper's, which recalls more than chance if annotated
        genes have more replicates than others, since means of many rows are all alike.

    Returns
    -------
    One row per representation, pair of thresholds and database, and for the mean and the union of the databases:
    ``metric``, ``representation``, ``key``, ``value`` and what else :func:`semiclip.metrics.relationship_recall`
    returns; and ``rank``, how many directions the correction kept: fewer than the representation has if the controls do
    not vary in the others.

    Raises
    ------
    KeyError
        If a column or representation does not exist.
    TypeError, ValueError
        If a control label matches no row, a batch has fewer than two controls, values are missing or not finite, or
        as in :func:`semiclip.metrics.relationship_recall`.

    References
    ----------
    Bendidi et al., ICML 2025, section B.1, DOI 10.48550/arXiv.2505.21317.

    Examples
    --------
    >>> import anndata
    >>> import numpy as np
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> rng = np.random.default_rng(0)
    >>> obs = pd.DataFrame({"gene": [f"G{i:02}" for i in range(40)] * 2 + ["control"] * 20})
    >>> complexes = np.tile(np.repeat(rng.normal(size=(20, 8)), 2, axis=0), (2, 1))
    >>> x = np.concatenate([complexes, np.zeros((20, 8))]) + rng.normal(size=(100, 8))
    >>> adata = anndata.AnnData(obs=obs.set_index(obs.index.astype(str)), obsm={"X_pca": x})
    >>> known = pd.DataFrame(obs["gene"].to_numpy()[:40].reshape(20, 2), columns=["gene_a", "gene_b"])
    >>> table = scl.tl.recall(
    ...     adata, use_rep="X_pca", perturbation_key="gene", control="control", relationships=known, method="center"
    ... )
    >>> table[["representation", "key", "value", "n_pairs", "rank"]].round(2)
      representation            key  value  n_pairs  rank
    0          X_pca  relationships   0.55       20     8
    1          X_pca           mean   0.55       20     8
    2          X_pca          union   0.55       20     8
    """
    check_baselines(baselines)
    limits = pairs_of_thresholds(thresholds)
    how: dict[str, Any] = {"method": method, "profile": profile, "ridge": ridge, "fallback": fallback}
    found = corrected(adata, use_rep, perturbation_key=perturbation_key, control=control, batch_key=batch_key, **how)
    known = datasets.relationships() if relationships is None else relationships
    tables = []
    for each in _with_baselines(found, baselines, rng):
        table = metrics.relationship_recall(
            *each.means(), known, thresholds=limits, n_permutations=n_permutations, rng=rng
        )
        table.insert(1, "representation", each.name)
        tables.append(table.assign(rank=each.rank))
    return pd.concat(tables, ignore_index=True)


def _with_baselines(
    found: Iterator[Corrected], baselines: Sequence[Baseline], rng: int | np.random.Generator | None
) -> Iterator[Corrected]:
    first = None
    for each in found:
        first = first or each
        yield each
        if "permuted" in baselines:
            yield permuted(each, np.random.default_rng(rng))
    for kind in dict.fromkeys(baselines):
        if kind != "permuted" and first is not None:
            yield random(first, kind, np.random.default_rng(rng))
