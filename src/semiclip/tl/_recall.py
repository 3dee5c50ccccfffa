from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from semiclip import datasets, metrics
from semiclip._checks import batches, column, controls, nonempty, representation, some
from semiclip.correction import correct

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from semiclip.correction._correct import Method, Profile

PAIR = ["gene_a", "gene_b"]


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
    fallback: Literal["raise", "pooled"] = "raise",
    thresholds: tuple[float, float] = (0.05, 0.95),
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
    method, profile, fallback
        Correction, see :func:`semiclip.correction.correct`; ``method=None`` takes the representation as it is. The
        paper's numbers are in the profile ``"public"``; ``"batch"`` takes many more controls in each batch than the
        representation has dimensions.
    thresholds, n_permutations, rng
        As in :func:`semiclip.metrics.relationship_recall`. With an integer ``rng`` all representations meet the
        same exchanges of labels.

    Returns
    -------
    One row per representation and database and one for the mean of the databases: ``metric``, ``representation``,
    ``key``, ``value``, ``n_pairs``, ``n_recalled``, ``error``, ``chance`` and, with permutations, ``chance_mean`` and
    ``chance_sd``.

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
    >>> table[["representation", "key", "value", "n_pairs"]].round(2)
      representation            key  value  n_pairs
    0          X_pca  relationships   0.55       20
    1          X_pca           mean   0.55       20
    """
    how = {"method": method, "profile": profile, "fallback": fallback}
    maps = _maps(adata, use_rep, perturbation_key, control, batch_key, how)
    known = datasets.relationships() if relationships is None else relationships
    tables = []
    for name, embedding, genes in maps:
        table = metrics.relationship_recall(
            embedding, genes, known, thresholds=thresholds, n_permutations=n_permutations, rng=rng
        )
        table.insert(1, "representation", name)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def relationship_sets(
    adata: AnnData,
    *,
    use_rep: str | Sequence[str],
    perturbation_key: str,
    control: str | Sequence[str] | None,
    batch_key: str | None = None,
    relationships: pd.DataFrame | None = None,
    method: Method | None = "tvn",
    profile: Profile = "clean",
    fallback: Literal["raise", "pooled"] = "raise",
    thresholds: tuple[float, float] = (0.05, 0.95),
) -> pd.DataFrame:
    """Say of each annotated gene pair which representations recall it, over all databases together.

    Parameters
    ----------
    adata, use_rep, perturbation_key, control, batch_key, relationships, method, profile, fallback, thresholds
        As in :func:`recall`.

    Returns
    -------
    One row per annotated pair with both genes among the perturbations: ``gene_a``, ``gene_b`` (in alphabetical
    order), ``databases`` (joined by ``";"``) and a boolean column per representation, true where it recalls the pair.

    Raises
    ------
    KeyError, TypeError, ValueError
        As in :func:`recall`.

    References
    ----------
    Bendidi et al., ICML 2025, Figures 4 and 5, DOI 10.48550/arXiv.2505.21317.

    Examples
    --------
    >>> import anndata
    >>> import numpy as np
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> genes = [f"G{i:02}" for i in range(20)]
    >>> adata = anndata.AnnData(obs=pd.DataFrame({"gene": genes}, index=genes))
    >>> adata.obsm["X_pca"] = np.random.default_rng(0).normal(size=(20, 4))
    >>> known = pd.DataFrame({"database": ["A", "B"], "gene_a": ["G00", "G01"], "gene_b": ["G01", "G00"]})
    >>> sets = scl.tl.relationship_sets(
    ...     adata, use_rep="X_pca", perturbation_key="gene", control=None, relationships=known, method=None
    ... )
    >>> sets
      gene_a gene_b databases  X_pca
    0    G00    G01       A;B  False
    """
    how = {"method": method, "profile": profile, "fallback": fallback}
    maps = _maps(adata, use_rep, perturbation_key, control, batch_key, how)
    if taken := {"gene_a", "gene_b", "databases"} & {name for name, _, _ in maps}:
        msg = f"a representation is called {some(taken)}, which is a column of the result; copy it to another key"
        raise ValueError(msg)
    known = datasets.relationships() if relationships is None else relationships
    recalled = {}
    for name, embedding, genes in maps:
        pairs = metrics.recalled_pairs(embedding, genes, known, thresholds=thresholds)
        recalled[name] = pairs.groupby(PAIR)["recalled"].first()
    # the sum of strings joins them, many times faster than a join per pair
    listed = pairs["database"].astype(object) + ";"
    databases = listed.groupby([pairs[gene] for gene in PAIR]).sum().str.removesuffix(";")
    return pd.DataFrame({"databases": databases, **recalled}).reset_index()


def _maps(
    adata: AnnData,
    use_rep: str | Sequence[str],
    perturbation_key: str,
    control: str | Sequence[str] | None,
    batch_key: str | None,
    how: dict[str, Any],
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return each representation's name, its mean per perturbation without the controls, and the perturbations."""
    keys = [use_rep] if isinstance(use_rep, str) else list(dict.fromkeys(use_rep))
    if not keys:
        msg = "use_rep names no representation; pass a key of obsm or a list of them"
        raise ValueError(msg)
    nonempty(adata)
    batch, batch_names = batches(adata, batch_key)
    is_control = controls(adata, perturbation_key, control)
    reference = is_control if control is not None else np.ones(adata.n_obs, dtype=bool)
    codes, labels = pd.factorize(column(adata, perturbation_key, "perturbation_key").to_numpy(), sort=True)
    kept = np.ones(len(labels), dtype=bool)
    kept[codes[is_control]] = False
    maps = []
    for key, x in {key: representation(adata, key) for key in keys}.items():
        if how["method"] is not None:
            x = correct(x, batch, reference, batch_names=list(batch_names), **how)
        maps.append((key, metrics.group_mean(x, codes, len(labels))[kept], labels[kept]))
    return maps
