"""What is near a perturbation, in which representations, and whether it is known."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from semiclip import datasets
from semiclip._arguments import check_whole
from semiclip._design import Design
from semiclip._docs import document
from semiclip.correction import CorrectionSpec, Fallback, Method, Profile
from semiclip.errors import NotGiven, NothingShared, TooFew, UnknownChoice, WrongType
from semiclip.metrics import _map
from semiclip.metrics._cosines import Cosines
from semiclip.metrics._matrices import normalise
from semiclip.metrics._nearest import order_by_closeness, rank_by_closeness, read_closeness
from semiclip.tl._columns import order_columns
from semiclip.tl._maps import Corrected, list_names, list_sources, read_with_sources
from semiclip.tl._relationship_sets import join_databases


@document
def nearest(
    adata: AnnData,
    *,
    use_rep: str,
    perturbation_key: str,
    control: str | Sequence[str] | None,
    batch_key: str | None = None,
    unlabelled: str | Sequence[str] | None = None,
    query: str | Sequence[str] | None = None,
    n_neighbors: int = 10,
    opposite: bool = False,
    references: str | Sequence[str] | Mapping[str, AnnData] | None = None,
    student_rep: str | None = None,
    teacher_rep: str | None = None,
    n_near: int = 10,
    relationships: pd.DataFrame | None = None,
    method: Method | None = "tvn",
    profile: Profile = "clean",
    ridge: float | None = None,
    fallback: Fallback = "raise",
    n_permutations: int = 1000,
    rng: int | np.random.Generator | None = None,
    progress_bar: bool = True,
) -> pd.DataFrame:
    """Return the perturbations that are nearest to each perturbation by cosine, and what else is known of the pairs.

    Each representation is corrected on the controls, which are then dropped, and the rows of each perturbation are
    averaged, as in :func:`recall`. What :func:`aggregate` returns is taken with ``control=None, method=None``.

    Parameters
    ----------
    adata
        Observations of perturbations, or one row for each.
    use_rep
        Key of ``obsm`` (or ``"X"``), such as ``"X_semiclip"``.
    {columns}
    {unlabelled}
    query
        Perturbation or perturbations whose neighbours are sought; by default all.
    n_neighbors
        Number of neighbours of each; all others where there are fewer.
    opposite
        Whether to return the most opposite perturbations, those of the lowest cosines, in place of the nearest. All
        ranks and p-values are then those of low cosines.
    references
        Key or keys of ``obsm`` of the representations to look the same pairs up in. A mapping of such keys to AnnData
        takes them from other objects, such as images, which share only the perturbations; the columns mean the same in
        all. If ``adata`` is an aggregate, so must they be.
    student_rep, teacher_rep, n_near
        Which of the references are the unimodal student and the images, and up to which rank a pair is near in them,
        for the column ``evidence``.
    {relationships}
        A table without rows says that none are known, as of compounds.
    {correction}
    n_permutations, rng, progress_bar
        Number of random exchanges for the p-values, 0 for none; their seed or generator; and whether to show their
        progress. Each takes one average of all rows and the cosines of the queries with all perturbations.

    Returns
    -------
    One row per query, in the order given, and neighbour, the nearest first: ``perturbation``, ``neighbour``, ``rank``
    from 1 (equal cosines in alphabetical order), ``cosine``; for each reference, such as ``X_pca``, ``rank_X_pca``
    (among the perturbations that both have) and ``cosine_X_pca``, missing where it lacks one of the two; ``known``
    and ``databases`` (joined by ``";"``), whether and where the pair is annotated, in either order. Then, unless
    ``n_permutations`` is 0, two p-values (Phipson and Smyth 2010, DOI 10.2202/1544-6115.1585), for which the treated
    rows exchange their perturbations after the correction:

    - ``p_value``: (1 + #{exchanges in which the cosine of these two is at least as high}) / (1 + n_permutations). It
      is of the pair alone: a perturbation that is like no other still has a nearest one with a small value.
    - ``p_adjusted``: the same for exchanges in which *any* perturbation is at least as near to the query, which
      allows for the choice among all of them (Westfall and Young's maximum).

    Random sets of treated rows share whatever all treated rows do: where that is much, nearest ones need a high cosine
    to stand out, and opposite ones do not need a low one. With one row per perturbation, as in an aggregate, a pair is
    compared with other pairs, and ``p_value`` comes near the share of all pairs that are at least as near.

    And, with ``student_rep`` and ``teacher_rep``, ``evidence``. A pair is near in a reference if its rank there is at
    most ``n_near``; look at the ranks themselves where they lie close to it:

    - ``"known to expression"``: near in the student.
    - ``"gained by images"``: not in the student, but in the images.
    - ``"distilled alone"``: in neither.
    - ``"not measured"``: the student lacks one of the two, or it is not near there and the images lack one.

    By chance a pair is near in a reference of n perturbations in ``n_near`` / (n − 1) of all cases.

    Examples
    --------
    >>> import semiclip as scl
    >>> study = scl.datasets.simulate(n_compounds=5, n_knockouts=24, n_pathways=6, n_genes=30, rng=0)
    >>> columns = {"perturbation_key": "perturbation", "control": "control", "relationships": study.relationships}
    >>> options = {"query": "gene_00", "n_neighbors": 3, "rng": 0, "progress_bar": False}
    >>> table = scl.tl.nearest(study.knockouts["image"], use_rep="X_image", **columns, **options)
    >>> table.drop(columns="perturbation").round(3)
      neighbour  cosine  rank  known databases  p_value  p_adjusted
    0   gene_18   0.792     1   True  pathways    0.001       0.009
    1   gene_12   0.730     2   True  pathways    0.002       0.050
    2   gene_06   0.582     3   True  pathways    0.063       0.676

    The same pairs in expression, of other samples:

    >>> options |= {"references": {"X": study.knockouts["rna"]}, "n_permutations": 0}
    >>> table = scl.tl.nearest(study.knockouts["image"], use_rep="X_image", **columns, **options)
    >>> table[["neighbour", "rank", "rank_X"]].to_numpy().tolist()
    [['gene_18', 1, 3], ['gene_12', 2, 2], ['gene_06', 3, 1]]
    """
    design = Design.of(perturbation_key=perturbation_key, control=control, batch_key=batch_key, unlabelled=unlabelled)
    spec = CorrectionSpec(method, profile, ridge, fallback=fallback)
    check_whole("n_neighbors", n_neighbors)
    check_whole("n_near", n_near)
    check_whole("n_permutations", n_permutations, 0)
    if not isinstance(use_rep, str):
        raise WrongType("use_rep", type(use_rep), "one key of obsm", "call once for each representation")
    sources = {} if references is None else list_sources(adata, references)
    _check_roles(sources, student_rep, teacher_rep)
    representation, others = read_with_sources(adata, use_rep, sources, design, spec)
    annotated = datasets.relationships() if relationships is None else relationships

    corrected = next(representation)
    means, names = corrected.average()
    labels = pd.Index(names)
    if len(labels) < 2:
        raise TooFew("perturbations", len(labels), 2)
    queries = _find_queries(query, labels)
    unit, n_nearest = normalise(means), min(n_neighbors, len(labels) - 1)
    neighbours = np.empty((len(queries), n_nearest), dtype=np.intp)
    closeness = np.empty(neighbours.shape)
    for rows, block in read_closeness(unit, queries, opposite=opposite):
        neighbours[rows] = order_by_closeness(block)[:, :n_nearest]
        closeness[rows] = np.take_along_axis(block, neighbours[rows], axis=1)
    sign = -1 if opposite else 1
    columns: dict[str, Any] = {
        "perturbation": labels[queries.repeat(n_nearest)],
        "neighbour": labels[neighbours.ravel()],
        "rank": np.tile(np.arange(1, n_nearest + 1), len(queries)),
        "cosine": sign * closeness.ravel(),
    }
    ranks = {}
    for key, other in zip(sources, others, strict=True):
        ranks[key], near = _look_up(next(other), labels, queries, neighbours, (use_rep, key), opposite=opposite)
        columns |= {f"rank_{key}": pd.array(ranks[key], dtype="Int64"), f"cosine_{key}": sign * near}
    known = _join_known(unit, labels, annotated, queries.repeat(n_nearest), neighbours.ravel())
    columns |= {"known": known != "", "databases": known}
    if n_permutations:
        counts = _count_exchanges(
            corrected, queries, neighbours, closeness, n_permutations, rng, opposite=opposite, progress_bar=progress_bar
        )
        p_values = (1 + counts.reshape(2, -1)) / (1 + n_permutations)
        columns |= dict(zip(("p_value", "p_adjusted"), p_values, strict=True))
    if student_rep is not None and teacher_rep is not None:
        columns["evidence"] = _name_evidence(ranks[student_rep], ranks[teacher_rep], n_near)
    return order_columns(
        pd.DataFrame(columns), ["perturbation", "neighbour", "cosine"], ["p_value", "p_adjusted", "evidence"]
    )


def _check_roles(sources: Mapping[str, AnnData], student_rep: str | None, teacher_rep: str | None) -> None:
    roles = {"student_rep": student_rep, "teacher_rep": teacher_rep}
    given = [name for name, key in roles.items() if key is not None]
    if len(given) == 1:
        (absent,) = roles.keys() - given
        raise NotGiven(absent, f"evidence needs both: pass it too, or leave out {given[0]}")
    for name in given:
        if roles[name] not in sources:
            raise UnknownChoice(name, roles[name], list(sources), "name it in references=")


def _find_queries(query: Any, labels: pd.Index) -> np.ndarray:
    """Return the positions of the queries, in their order."""
    if query is None:
        return np.arange(len(labels))
    wanted = list_names([query] if pd.api.types.is_scalar(query) else query, "query")
    if absent := [name for name in wanted if name not in labels]:
        # the first alone, for which a close match is named
        raise UnknownChoice("query", absent[0], labels)
    return labels.get_indexer(pd.Index(wanted, dtype=labels.dtype))


def _look_up(
    other: Corrected,
    labels: pd.Index,
    queries: np.ndarray,
    neighbours: np.ndarray,
    names: tuple[str, str],
    *,
    opposite: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Return ranks and closeness of the same pairs in another representation, one after the other; NaN for none."""
    means, their_labels = other.average()
    shared = np.isin(their_labels, labels)
    if shared.sum() < 2:
        raise NothingShared("pair of perturbations", labels, their_labels, names, _map.ONE_LABEL)
    place = pd.Index(their_labels[shared]).get_indexer(labels)
    unit, held = normalise(means[shared]), np.flatnonzero(place[queries] >= 0)
    ranks, near = np.full((2, *neighbours.shape), np.nan)
    for rows, block in read_closeness(unit, place[queries[held]], opposite=opposite):
        there = place[neighbours[held[rows]]]
        for found, values in ((ranks, rank_by_closeness(block)), (near, block)):
            found[held[rows]] = np.where(there >= 0, np.take_along_axis(values, there, axis=1), np.nan)
    return ranks.ravel(), near.ravel()


def _join_known(
    unit: np.ndarray, labels: pd.Index, relationships: pd.DataFrame, first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """Return the databases of each pair, joined, or an empty text."""
    if isinstance(relationships, pd.DataFrame) and relationships.empty:
        return np.full(len(first), "", dtype=object)
    pairs = _map.read_pairs(relationships, labels)
    databases = join_databases(_map.GeneMap(labels, Cosines(unit), *pairs))
    index = pd.MultiIndex.from_arrays([labels[np.minimum(first, second)], labels[np.maximum(first, second)]])
    return databases.reindex(index).fillna("").to_numpy(dtype=object)


def _count_exchanges(
    corrected: Corrected,
    queries: np.ndarray,
    neighbours: np.ndarray,
    closeness: np.ndarray,
    n_permutations: int,
    rng: int | np.random.Generator | None,
    *,
    opposite: bool,
    progress_bar: bool,
) -> np.ndarray:
    """Count exchanges in which each pair, and in which any pair of its query, is at least as close: (2, q, k)."""
    from tqdm.auto import tqdm

    generator, counts = np.random.default_rng(rng), np.zeros((2, *neighbours.shape), dtype=np.intp)
    for _ in tqdm(range(n_permutations), "permutations", disable=not progress_bar):
        unit = normalise(corrected.exchange(generator).average()[0])
        for rows, block in read_closeness(unit, queries, opposite=opposite):
            counts[0, rows] += np.take_along_axis(block, neighbours[rows], axis=1) >= closeness[rows]
            counts[1, rows] += block.max(axis=1, keepdims=True) >= closeness[rows]
    return counts


def _name_evidence(student: np.ndarray, teacher: np.ndarray, n_near: int) -> np.ndarray:
    """Say in which of the two each pair has a rank of at most ``n_near``; a comparison with NaN is false."""
    cases = {
        "known to expression": student <= n_near,
        "not measured": np.isnan(student),
        "gained by images": teacher <= n_near,
        "distilled alone": ~np.isnan(teacher),
    }
    return np.select(list(cases.values()), list(cases), "not measured")
