from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from semiclip import datasets
from semiclip._arguments import check_choice
from semiclip._design import Design
from semiclip._docs import document
from semiclip.correction import CorrectionSpec, Fallback, Method, Profile
from semiclip.errors import NameTaken, NothingShared, Repeated, WrongType
from semiclip.metrics import _hits, _map
from semiclip.tl._maps import RecallBaseline, add_baselines, list_names, read_with_sources
from semiclip.tl._sets import GENES, NOT_SETS, THRESHOLDS

COPY = "copy the representation to another key of obsm"


@document
def relationship_sets(
    adata: AnnData,
    *,
    use_rep: str | Sequence[str],
    perturbation_key: str,
    control: str | Sequence[str] | None,
    batch_key: str | None = None,
    unlabelled: str | Sequence[str] | None = None,
    references: Mapping[str, AnnData] | None = None,
    relationships: pd.DataFrame | None = None,
    method: Method | None = "tvn",
    profile: Profile = "clean",
    ridge: float | None = None,
    fallback: Fallback = "raise",
    thresholds: _map.Thresholds = (0.05, 0.95),
    baselines: Sequence[RecallBaseline] = (),
    rng: int | np.random.Generator | None = None,
) -> pd.DataFrame:
    """Return which representations recall each annotated gene pair, over all databases together (paper Figure 4).

    Parameters
    ----------
    {samples}
    {unlabelled}
    references
        Representations of other samples: keys of ``obsm`` of other objects, for example of images of the same
        knockouts. The columns mean the same in all. Each is corrected on its own controls, and its tails are those of
        all pairs of its own genes.
    {relationships}
    {correction}
    thresholds
        Low and high quantile beyond which a pair is recalled, or several such pairs.
    baselines
        Embeddings that know nothing, as in :func:`recall`. ``"permuted"``, the null of the paper's Figures 6 and 7, is
        each representation in ``use_rep`` after one exchange of the perturbations of its treated rows, in the column
        ``"X_pca (permuted)"`` for ``"X_pca"``.
    rng
        Seed or generator of the baselines. An integer makes the same exchange here and in :func:`recall`.

    Returns
    -------
    One row per annotated pair with both genes among the perturbations of every object: ``gene_a``, ``gene_b`` (in
    alphabetical order), ``databases`` (joined by ``";"``) and a boolean column per representation, true where it
    recalls the pair. With several pairs of thresholds, ``threshold_low`` and ``threshold_high`` stand after
    ``databases``, and the rows of each follow one another: :func:`overlap` and :func:`gains_losses` count them
    separately, and where one is needed, choose it with
    ``sets[(sets["threshold_low"] == 0.05) & (sets["threshold_high"] == 0.95)]``.

    {paper}

    Examples
    --------
    >>> import semiclip as scl
    >>> study = scl.datasets.simulate(n_compounds=5, n_knockouts=24, n_pathways=6, n_genes=30, rng=0)
    >>> columns = {"perturbation_key": "perturbation", "control": "control", "relationships": study.relationships}
    >>> scl.tl.relationship_sets(study.knockouts["image"], use_rep="X_image", **columns).head(2)
        gene_a   gene_b databases  X_image
    0  gene_00  gene_06  pathways    False
    1  gene_00  gene_12  pathways     True

    Transcriptomics beside images of the same knockouts, with an exchange for chance, at two pairs of thresholds:

    >>> rna, images = study.knockouts["rna"], study.knockouts["image"]
    >>> options = {"references": {"X_image": images}, "baselines": ["permuted"], "rng": 0} | columns
    >>> sets = scl.tl.relationship_sets(rna, use_rep="X", thresholds=[(0.05, 0.95), (0.1, 0.9)], **options)
    >>> sets.groupby("threshold_low")[["X", "X (permuted)", "X_image"]].sum().to_numpy().tolist()
    [[6, 4, 13], [11, 6, 27]]
    """
    design = Design.of(perturbation_key=perturbation_key, control=control, batch_key=batch_key, unlabelled=unlabelled)
    spec = CorrectionSpec(method, profile, ridge, fallback=fallback)
    for kind in baselines:
        check_choice("baselines", kind, RecallBaseline)
    if not isinstance(references, Mapping | None):
        raise WrongType("references", type(references), "a mapping of keys of obsm to AnnData")
    sources, names = dict(references or {}), list_names(use_rep)
    if taken := [name for name in (*names, *sources) if name in NOT_SETS]:
        raise NameTaken(taken, "a column of the result", COPY)
    if both := [name for name in sources if name in names]:
        raise Repeated("representations in use_rep and references", both, COPY)
    levels = _map.read_thresholds(thresholds)
    representations, others = read_with_sources(adata, names, sources, design, spec)
    annotated = datasets.relationships() if relationships is None else relationships

    recalled: dict[str, pd.DataFrame] = {}
    databases = pd.Series(dtype=object)
    for corrected in chain(add_baselines(representations, baselines, rng), *others):  # one map at a time in memory
        if corrected.name in recalled:
            raise NameTaken(corrected.name, "a baseline", COPY)
        gene_map = _map.gene_map(*corrected.average(), annotated)
        if not recalled:
            databases = join_databases(gene_map)
        pairs = _map.distinct_pairs(gene_map)
        index = pd.MultiIndex.from_arrays([gene_map.genes[genes] for genes in pairs], names=GENES)
        recalled[corrected.name] = pd.DataFrame(_hits.recalled(gene_map, pairs, levels), index)
        if corrected.name in sources:  # the maps of one object hold the same pairs
            if not databases.index.isin(index).any():
                one, other = (held.unique(0).union(held.unique(1)) for held in (databases.index, index))
                raise NothingShared("annotated pair", one, other, (names[0], corrected.name), _map.ONE_LABEL)
            databases = databases[databases.index.isin(index)]
    recalled = {name: hits.reindex(databases.index) for name, hits in recalled.items()}
    tables = []
    for i, level in enumerate(levels):
        columns: dict[str, Any] = dict(zip(THRESHOLDS, level, strict=True)) if len(levels) > 1 else {}
        columns |= {name: hits[i].to_numpy(dtype=bool) for name, hits in recalled.items()}
        tables.append(databases.to_frame("databases").assign(**columns).reset_index())
    return pd.concat(tables, ignore_index=True)


def join_databases(gene_map: _map.GeneMap) -> pd.Series:
    """Return the databases of each annotated pair, joined; the pairs are in the order of their genes."""
    pairs = zip(GENES, (gene_map.first, gene_map.second), strict=True)
    genes = [pd.Index(gene_map.genes[positions], name=name) for name, positions in pairs]
    # the sum of strings joins them, many times faster than a join per pair
    parts = pd.Series(gene_map.names[gene_map.database]).astype(object) + ";"
    return parts.groupby(genes).sum().str.removesuffix(";")
