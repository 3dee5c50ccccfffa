from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

import numpy as np
import pandas as pd
from anndata import AnnData

from semiclip import datasets, metrics
from semiclip._arguments import check_choice, check_whole
from semiclip._design import Design
from semiclip._docs import document
from semiclip.correction import CorrectionSpec, Fallback, Method, Profile
from semiclip.errors import WrongType
from semiclip.metrics import _hits, _map, _recall
from semiclip.metrics._cosines import Cosines
from semiclip.metrics._matrices import check_permutations
from semiclip.metrics._misspelt import count_misspelt
from semiclip.tl._columns import order_columns
from semiclip.tl._maps import Corrected, RecallBaseline, add_baselines, list_sources, read_corrected, read_with_sources

NULL_THRESHOLDS = ((0.05, 0.95), (0.1, 0.9), (0.15, 0.85), (0.2, 0.8), (0.25, 0.75))  # of null_overlap


@document
def recall(
    adata: AnnData,
    *,
    use_rep: str | Sequence[str],
    perturbation_key: str,
    control: str | Sequence[str] | None,
    batch_key: str | None = None,
    unlabelled: str | Sequence[str] | None = None,
    relationships: pd.DataFrame | None = None,
    method: Method | None = "tvn",
    profile: Profile = "clean",
    ridge: float | None = None,
    fallback: Fallback = "raise",
    thresholds: _map.Thresholds = (0.05, 0.95),
    baselines: Sequence[RecallBaseline] = (),
    n_permutations: int = 1000,
    rng: int | np.random.Generator | None = None,
    progress_bar: bool = True,
) -> pd.DataFrame:
    """Return how many known gene relationships each representation recalls (paper B.1).

    Each representation is corrected on the controls, which are then dropped, and the rows of each perturbation are
    averaged; :func:`semiclip.metrics.relationship_recall` judges the means.

    Parameters
    ----------
    {samples}
    {unlabelled}
    {relationships}
    {correction}
        The paper's numbers are in the profile ``"public"``, which is the one of EFAAR_benchmarking.
    thresholds
        Low and high quantile beyond which a pair is recalled, or several such pairs.
    baselines
        Embeddings that know nothing, each with rows of its own. ``"permuted"``, the fairest, is each representation
        after one exchange of the perturbations of its treated rows. ``"normal"`` is random values around zero, and
        ``"uniform"``, as in the paper, between zero and one: means of many such rows are all alike, so that it recalls
        more than chance if annotated genes have more replicates than others.
    n_permutations
        Number of random exchanges of the gene labels that measure chance; 0 leaves chance out. If annotated genes have
        more replicates than others, that alone can look significant: look at the baseline ``"permuted"`` too.
    rng
        Seed or generator of exchanges and baselines. With an integer all representations meet the same exchanges.
    progress_bar
        Whether to show the progress of exchanges that take more than a second.

    Returns
    -------
    What :func:`semiclip.metrics.relationship_recall` returns, for each ``representation``, and ``rank``, the number of
    directions that the correction kept: those in which the controls vary, or all where whitening takes a ridge.

    {paper}

    Examples
    --------
    >>> import semiclip as scl
    >>> study = scl.datasets.simulate(n_compounds=5, n_knockouts=24, n_pathways=6, n_genes=30, rng=0)
    >>> columns = {"perturbation_key": "perturbation", "control": "control", "relationships": study.relationships}
    >>> table = scl.tl.recall(study.knockouts["image"], use_rep="X_image", **columns, rng=0)
    >>> table[["key", "value", "n_pairs", "p_value"]].round(3).head(1).to_numpy().tolist()
    [['pathways', 0.361, 36, 0.001]]
    """
    from tqdm.auto import tqdm

    design = Design.of(perturbation_key=perturbation_key, control=control, batch_key=batch_key, unlabelled=unlabelled)
    check_permutations(n_permutations)
    for name in baselines:
        check_choice("baselines", name, RecallBaseline)
    levels = _map.read_thresholds(thresholds)
    representations = read_corrected(adata, use_rep, design, CorrectionSpec(method, profile, ridge, fallback=fallback))
    annotated = datasets.relationships() if relationships is None else relationships

    def watch(exchanges: Iterable[_hits.Exchanged], n: int) -> Iterable[_hits.Exchanged]:
        return tqdm(exchanges, "permutations", n, disable=not progress_bar, delay=1)

    tables, n_misspelt = [], None
    for corrected in add_baselines(representations, baselines, rng):
        gene_map = _map.gene_map(*corrected.average(), annotated)
        table = _recall.measure_recall(gene_map, levels, n_permutations, rng, watch)
        if n_misspelt is None:  # all maps have the same genes, and lose the same pairs
            n_misspelt = count_misspelt(annotated, gene_map)
        table = _recall.add_misspelt(table, n_misspelt)
        del gene_map  # so that one map at a time is in memory
        tables.append(table.assign(representation=corrected.name, rank=corrected.rank))
    return order_columns(
        pd.concat(tables, ignore_index=True), ["representation", "key"], ["ci_low", "ci_high", "value"]
    )


@document
def similarity(
    adata: AnnData,
    *,
    use_rep: str | Sequence[str],
    perturbation_key: str,
    control: str | Sequence[str] | None,
    batch_key: str | None = None,
    unlabelled: str | Sequence[str] | None = None,
    relationships: pd.DataFrame | None = None,
    method: Method | None = "tvn",
    profile: Profile = "clean",
    ridge: float | None = None,
    fallback: Fallback = "raise",
    thresholds: tuple[float, float] = (0.05, 0.95),
    n_bins: int = 100,
) -> pd.DataFrame:
    """Return histograms of the cosines of all pairs, and of annotated pairs, on the maps of :func:`recall` (paper B.1).

    Parameters
    ----------
    {map}
    n_bins
        Number of bins between -1 and 1.

    Returns
    -------
    One row per representation and bin: ``representation`` and the columns of :func:`semiclip.metrics.similarity`.

    {paper}

    Examples
    --------
    >>> import semiclip as scl
    >>> study = scl.datasets.simulate(n_compounds=5, n_knockouts=24, n_pathways=6, n_genes=30, rng=0)
    >>> columns = {"perturbation_key": "perturbation", "control": "control", "relationships": study.relationships}
    >>> table = scl.tl.similarity(study.knockouts["image"], use_rep="X_image", **columns, n_bins=4)
    >>> table["n_all"].tolist(), table["n_annotated"].tolist()
    ([0, 107, 137, 32], [0, 0, 4, 32])
    """
    design = Design.of(perturbation_key=perturbation_key, control=control, batch_key=batch_key, unlabelled=unlabelled)
    (level,) = _map.read_thresholds(thresholds, single=True)
    representations = read_corrected(adata, use_rep, design, CorrectionSpec(method, profile, ridge, fallback=fallback))
    annotated = datasets.relationships() if relationships is None else relationships
    tables = {
        corrected.name: metrics.similarity(*corrected.average(), annotated, thresholds=level, n_bins=n_bins)
        for corrected in representations
    }
    table = pd.concat(tables, names=["representation", None]).reset_index(level=0).reset_index(drop=True)
    return order_columns(table, ["representation", "low", "high", "n_all"], ["n_annotated", "all", "annotated"])


@document
def null_overlap(
    adata: AnnData,
    *,
    use_rep: str,
    perturbation_key: str,
    control: str | Sequence[str] | None,
    batch_key: str | None = None,
    unlabelled: str | Sequence[str] | None = None,
    references: str | Sequence[str] | Mapping[str, AnnData],
    relationships: pd.DataFrame | None = None,
    method: Method | None = "tvn",
    profile: Profile = "clean",
    ridge: float | None = None,
    fallback: Fallback = "raise",
    thresholds: _map.Thresholds = NULL_THRESHOLDS,
    n_permutations: int = 1000,
    rng: int | np.random.Generator | None = None,
    progress_bar: bool = True,
) -> pd.DataFrame:
    """Return how many pairs two representations both recall, beside the number that chance gives (paper Figures 6, 7).

    For chance, the treated rows of one representation exchange their perturbations at random after the correction.

    Parameters
    ----------
    adata
        Observations of genetic perturbations.
    use_rep
        Key of ``obsm`` (or ``"X"``), the representation whose rows exchange their perturbations.
    {columns}
    {unlabelled}
    references
        Key or keys of ``obsm`` of the representations to compare with. A mapping of such keys to AnnData takes them
        from other objects, for example from images, which share only the genes; the columns mean the same in all.
    {relationships}
    {correction}
    thresholds
        Low and high quantile beyond which a pair is recalled, or several such pairs.
    n_permutations, rng, progress_bar
        Number of exchanges, at least 1, their seed or generator, and whether to show their progress. Each takes the
        time of one map of the genes; where each perturbation has a single row, a thousand take little more than one.

    Returns
    -------
    One row per reference and pair of thresholds: ``representation``, ``reference``, ``threshold_low``,
    ``threshold_high``, ``n_recalled`` and ``n_reference`` (the pairs that each recalls, over all databases together),
    ``n_pairs`` (the annotated pairs that both maps hold), ``overlap`` (the pairs that both recall), ``null_mean``,
    ``null_low``, ``null_median`` and ``null_high`` (mean and 2.5 %, 50 % and 97.5 % quantiles over the exchanges),
    ``p_value`` ((1 + #{exchanges with at least this overlap}) / (1 + n_permutations)) and ``n_permutations``.

    A representation that recalls more annotated pairs than chance shares more of them with any reference, even with one
    that knows nothing. Two representations agree beyond that only if their overlap is more than
    ``n_recalled * n_reference / n_pairs``, on maps of the same genes.

    {paper}
    The p-value: Phipson and Smyth 2010, DOI 10.2202/1544-6115.1585.

    Examples
    --------
    >>> import semiclip as scl
    >>> study = scl.datasets.simulate(n_compounds=5, n_knockouts=24, n_pathways=6, n_genes=30, rng=0)
    >>> columns = {"perturbation_key": "perturbation", "control": "control", "relationships": study.relationships}
    >>> options = {"references": "X_image", "n_permutations": 100, "rng": 0, "progress_bar": False}
    >>> table = scl.tl.null_overlap(study.knockouts["image"], use_rep="X_image", **columns, **options)
    >>> table[["reference", "overlap", "null_median", "null_high", "p_value"]].round(2).head(1).to_numpy().tolist()
    [['X_image', 13, 1.0, 4.0, 0.01]]
    """
    from tqdm.auto import tqdm

    design = Design.of(perturbation_key=perturbation_key, control=control, batch_key=batch_key, unlabelled=unlabelled)
    spec = CorrectionSpec(method, profile, ridge, fallback=fallback)
    check_whole("n_permutations", n_permutations)
    if not isinstance(use_rep, str):
        raise WrongType("use_rep", type(use_rep), "one key of obsm", "call once for each representation")
    sources = list_sources(adata, references)
    levels = _map.read_thresholds(thresholds)
    representation, others = read_with_sources(adata, use_rep, sources, design, spec)
    annotated = datasets.relationships() if relationships is None else relationships

    # one map at a time in memory, and first those of which little is kept
    compared = [
        _hits.RecalledPairs.of(_map.gene_map(*other.average(), annotated), levels)
        for other in chain.from_iterable(others)
    ]
    corrected = next(representation)
    means, genes = corrected.average()
    own_map = _map.gene_map(means, genes, annotated)
    order, single = pd.Index(genes).get_indexer(own_map.genes), bool((corrected.counts == 1).all())
    del means  # which the map has in another order
    pairs = _map.distinct_pairs(own_map)
    shared = [other.look_up(own_map.genes, pairs) for other in compared]
    in_reference, n_pairs = (np.array(part) for part in zip(*shared, strict=True))
    n_reference = np.array([other.hit.sum(axis=0) for other in compared])
    tails, in_own = _hits.find_tails(own_map.cosines, levels, pairs, keep=single)
    overlap = (in_own & in_reference).sum(axis=1)

    rng = np.random.default_rng(rng)
    draws = np.zeros((n_permutations, *overlap.shape), dtype=np.intp)
    needed = in_reference.any(axis=(0, 2))  # what no reference recalls is in no overlap
    pairs, in_reference = (pairs[0][needed], pairs[1][needed]), in_reference[:, needed]
    compared_with = pairs, in_reference, n_permutations, rng
    if single:
        counts = _count_moved(corrected, order, own_map.cosines, tails, *compared_with)
    else:
        counts = _count_averaged(corrected, order, levels, *compared_with)
    n_exchanges = n_permutations * (_hits.count_strips(own_map.cosines, tails) if single else 1)
    for i, n_both in tqdm(counts, "permutations", n_exchanges, disable=not progress_bar):
        draws[i] += n_both

    low, median, high = np.quantile(draws, [0.025, 0.5, 0.975], axis=0)
    more = (draws >= overlap).sum(axis=0)
    scores = {"overlap": overlap, "null_mean": draws.mean(axis=0), "null_low": low, "null_median": median}
    scores |= {"null_high": high, "p_value": (1 + more) / (1 + n_permutations)}
    names = ["representation", "reference", "threshold_low", "threshold_high"]
    table = pd.DataFrame([(use_rep, key, *level) for key in sources for level in levels], columns=names)
    n_recalled, n_shared = np.tile(in_own.sum(axis=0), len(sources)), n_pairs.repeat(len(levels))
    table = table.assign(n_recalled=n_recalled, n_reference=n_reference.ravel(), n_pairs=n_shared)
    table = table.assign(**{name: score.ravel() for name, score in scores.items()}, n_permutations=n_permutations)
    return order_columns(table, ["representation", "reference"], ["null_median", "null_high", "overlap", "p_value"])


def _count_averaged(
    corrected: Corrected,
    order: np.ndarray,
    levels: _map.Levels,
    pairs: tuple[np.ndarray, np.ndarray],
    in_reference: np.ndarray,
    n_draws: int,
    rng: np.random.Generator,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield how many pairs are recalled as well after each exchange, shape (n_references, n_thresholds)."""
    for i in range(n_draws):
        means, _ = corrected.exchange(rng).average()
        hit = _hits.find_tails(Cosines.of(means[order]), levels, pairs)[1]
        yield i, (hit & in_reference).sum(axis=1)


def _count_moved(
    corrected: Corrected,
    order: np.ndarray,
    cosines: Cosines,
    tails: _hits.Tails,
    pairs: tuple[np.ndarray, np.ndarray],
    in_reference: np.ndarray,
    n_draws: int,
    rng: np.random.Generator,
) -> Iterator[tuple[int, np.ndarray]]:
    """Count the same where each perturbation has one row: means stay the same rows, and no cosine is computed anew."""
    place, rows = np.argsort(order), corrected.treated

    def draw(rng: np.random.Generator) -> np.ndarray:
        moved = np.empty_like(place)
        moved[place[corrected.exchange(rng).codes[rows]]] = place[corrected.codes[rows]]
        return moved

    # pairs that differ neither in code nor in the tails of a reference are counted together
    known = [np.unique(hit, axis=0, return_inverse=True) for hit in in_reference]
    for i, codes, patterns in _hits.exchange_labels(cosines, tails, pairs, n_draws, draw, rng):
        n_both = []
        for kinds, kind in known:
            shape = (len(patterns), len(kinds))
            alike = np.bincount(codes * np.intp(len(kinds)) + kind.ravel(), minlength=shape[0] * shape[1])
            n_both.append(((patterns.T @ alike.reshape(shape)) * kinds.T).sum(axis=1))
        yield i, np.array(n_both)
