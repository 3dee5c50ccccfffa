from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip import datasets, metrics
from semiclip._design import Design
from semiclip._docs import document
from semiclip.correction import CorrectionSpec
from semiclip.metrics._map import pairs_of_thresholds
from semiclip.tl._baselines import RecallBaseline, check_baselines, draw_values, exchange_perturbations
from semiclip.tl._maps import read_corrected

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anndata import AnnData

    from semiclip.correction import Fallback, Method, Profile
    from semiclip.metrics._map import Thresholds
    from semiclip.tl._maps import Corrected


@document
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
    baselines: Sequence[RecallBaseline] = (),
    n_permutations: int = 1000,
    rng: int | np.random.Generator | None = None,
) -> pd.DataFrame:
    """Return how many known gene relationships each representation recalls (paper B.1).

    Each representation is corrected on the controls, the controls are dropped, and the rows of each perturbation are
    averaged. The cosines of all pairs of perturbations are then compared with annotated gene pairs; see
    :func:`semiclip.metrics.relationship_recall`.

    Parameters
    ----------
    adata
        Observations of genetic perturbations.
    {representations}
    {columns}
    {relationships}
    {correction}
        The paper's numbers are in the profile ``"public"``, which is the one of EFAAR_benchmarking.
    thresholds
        Low and high quantile beyond which a pair is recalled, or several such pairs.
    baselines
        Embeddings that know nothing, each with rows of its own. ``"permuted"``, the fairest, is each representation
        after one exchange of the perturbations of its treated rows. ``"normal"`` is random values around zero.
        ``"uniform"`` is random values between zero and one, as in the paper: it recalls more than chance if annotated
        genes have more replicates than others, since means of many rows are all alike.
    n_permutations
        Number of random exchanges of the gene labels that measure chance; 0 leaves chance out. An exchange ignores how
        many replicates a gene has. If annotated genes have more of them than others, that alone can look significant:
        look at the baseline ``"permuted"`` too, which keeps these numbers.
    rng
        Seed or generator of exchanges and baselines. With an integer all representations meet the same exchanges.

    Returns
    -------
    One row per representation, pair of thresholds and database, and for the mean and the union of the databases:
    ``metric``, ``representation``, ``key``, ``value``, the other columns of
    :func:`semiclip.metrics.relationship_recall`, and ``rank``, the number of directions that the correction kept.
    Directions in which the controls do not vary are lost.

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
    >>> columns = {"perturbation_key": "gene", "control": "control"}
    >>> table = scl.tl.recall(adata, use_rep="X_pca", **columns, relationships=known, method="center", rng=0)
    >>> table[["representation", "key", "value", "n_pairs", "rank"]].round(2)
      representation            key  value  n_pairs  rank
    0          X_pca  relationships   0.55       20     8
    1          X_pca           mean   0.55       20     8
    2          X_pca          union   0.55       20     8
    """
    design = Design.of(perturbation_key=perturbation_key, control=control, batch_key=batch_key)
    spec = CorrectionSpec(method, profile, ridge, fallback=fallback)
    check_baselines(baselines, RecallBaseline)
    levels = pairs_of_thresholds(thresholds)
    representations = read_corrected(adata, use_rep, design, spec)
    annotated = datasets.relationships() if relationships is None else relationships
    tables = []
    for corrected in _add_baselines(representations, baselines, rng):
        means, genes = corrected.average()
        table = metrics.relationship_recall(
            means, genes, annotated, thresholds=levels, n_permutations=n_permutations, rng=rng
        )
        table.insert(1, "representation", corrected.name)
        tables.append(table.assign(rank=corrected.rank))
    return pd.concat(tables, ignore_index=True)


def _add_baselines(
    representations: Iterator[Corrected], baselines: Sequence[RecallBaseline], rng: int | np.random.Generator | None
) -> Iterator[Corrected]:
    first = None
    for corrected in representations:
        first = first or corrected
        yield corrected
        if "permuted" in baselines:
            yield exchange_perturbations(corrected, np.random.default_rng(rng))
    for kind in dict.fromkeys(baselines):
        if kind != "permuted" and first is not None:
            yield draw_values(first, kind, np.random.default_rng(rng))
