"""Which genes drive the place of a perturbation in a representation, or the cosine of two."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from semiclip._arguments import check_whole
from semiclip._checks import check_adata, read_representation
from semiclip._design import Design
from semiclip._docs import document
from semiclip._messages import announce_loading, warn_once
from semiclip._numerics import row_blocks, rows_at_once
from semiclip._provenance import TOLERANCE
from semiclip.correction import CorrectionSpec, Fallback, Method, Profile
from semiclip.errors import BadValue, Conflict, Mismatch, NotGiven, NoVariation, Refused, TooFewControls, UnknownChoice
from semiclip.metrics._gene_weights import count_exchanged
from semiclip.tl._maps import fit_chains

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anndata import AnnData

    from semiclip.correction import Affine
    from semiclip.encoders import Trainable
    from semiclip.model import SemiClip
    from semiclip.tl._gene_map import GeneMap

VALUES = 1 << 22  # numbers that exist at a time
WAY_OUT = (
    "pass the encoder and the model that made it (model=None for an embedding by the encoder alone), and the batch_key "
    "and control that scl.tl.embed was given"
)


class Part(NamedTuple):
    """What one perturbation adds to a number: by gene, shape (G,), and by batch and gene, shape (B, G)."""

    contributions: np.ndarray
    changes: np.ndarray
    weights: np.ndarray
    value: float
    baseline: float


@document
def gene_attribution(
    adata: AnnData,
    *,
    use_rep: str,
    perturbation_key: str,
    control: str | Sequence[str] | None,
    batch_key: str | None = None,
    encoder: Trainable,
    model: SemiClip | None = None,
    perturbation: Any = None,
    pair: Sequence[Any] | None = None,
    method: Method | None = "tvn",
    profile: Profile = "clean",
    ridge: float | None = None,
    fallback: Fallback = "raise",
    n_steps: int = 64,
    n_permutations: int = 1000,
    rng: int | np.random.Generator | None = None,
) -> pd.DataFrame:
    r"""Return what each gene adds to the distance of a perturbation from the controls, or to the cosine of two.

    Each row is followed from its genes through the encoder, the model and both corrections to the representation that
    :func:`nearest` and :func:`recall` compare, and measured against the mean expression of the controls of its batch.
    Let :math:`d_g` be the change of gene :math:`g` and :math:`w_g` the slope of what is explained, averaged on the
    straight line from the controls to the row. The gene adds :math:`d_g w_g` (integrated gradients, Sundararajan et al.
    2017), here averaged over the rows. All genes together add what the rows have more than the controls.

    Parameters
    ----------
    adata
        Expression, with the representation and, for a model, its student representation in ``obsm``.
    use_rep
        Key of ``obsm`` of the representation that is explained: what :func:`embed` wrote with ``model``, or without a
        model what :func:`semiclip.pp.encode` wrote, so that both can be compared.
    {columns}
    encoder
        The fitted encoder of the student, with a network, such as a :class:`semiclip.encoders.PCAEncoder` or
        :class:`semiclip.encoders.SCVIEncoder`. scGPT is refused: its bins of expression have no gradient.
    model
        The trained model, by any recipe; ``None`` explains the embedding by the encoder alone.
    perturbation
        Perturbation whose distance from the controls is explained: the projection of its mean on its own direction,
        :math:`\langle z, u \rangle` with :math:`u = (z - z_0) / \lVert z - z_0 \rVert`, where :math:`z` is the mean of
        its corrected rows and :math:`z_0` that of the controls of their batches.
    pair
        Two perturbations whose cosine is explained: half of what is added is that of the genes that the first changes,
        :math:`\langle z_A, u_B \rangle / \lVert z_A \rVert`, and half that of the second.
    {correction}
        It is fitted as in :func:`nearest`.
    n_steps
        Steps of the integral where a network is not linear, by captum; a linear way, as by PCA and the default recipe,
        has one slope, without an error.
    n_permutations, rng
        Number of exchanges of genes for the p-values, 0 for none; their seed or generator.

    Returns
    -------
    One row for each gene that the encoder reads, the largest contributions of either sign first: ``gene``;
    ``attribution``, in units of the corrected representation for a perturbation, and of the cosine for a pair;
    ``direction``, whether its expression is ``"up"`` or ``"down"`` against the controls (with ``control=None``, against
    the mean of all rows), ``"mixed"`` where the two of a pair differ, ``"none"`` without a change; and ``rank``, from
    1. ``attrs["value"]`` is the projection or the cosine, ``attrs["baseline"]`` that of a sample with the mean
    expression of the controls, which by a linear way is near 0 after centring: attributions sum to their difference,
    up to the error of ``n_steps``. ``attrs`` also has ``use_rep``, ``perturbations`` and ``reference``, which is
    ``"controls"`` or ``"all rows"``. Unless ``n_permutations`` is 0, then

    - ``p_value``: the share of products :math:`d_g w_g` at least as large when the slopes are exchanged among genes,
      over all genes and exchanges (Phipson and Smyth 2010, DOI 10.2202/1544-6115.1585); of a network, :math:`d_g` and
      :math:`w_g` are means of each batch. Changes stay with their genes, of both perturbations of a pair. A small one
      says that a gene has a large change and a large slope at once, by exchanged slopes, not that replicates agree on
      it. Genes without a change or without a slope, such as those that no sample expresses, are not tested: NaN.
    - ``p_adjusted``: Benjamini and Hochberg's over the genes that are tested.

    Raises
    ------
    ValueError
        If ``obsm[use_rep]`` of the rows or of their controls is not what encoder and model make of the expression, or
        was made of z-scores, among others.
    ImportError
        If a network is not linear and captum is not installed.

    References
    ----------
    Sundararajan et al., ICML 2017, DOI 10.48550/arXiv.1703.01365.

    Examples
    --------
    >>> import semiclip as scl
    >>> study = scl.datasets.simulate(n_compounds=100, n_knockouts=24, n_pathways=6, n_genes=60, rng=0)
    >>> rna = study.knockouts["rna"]
    >>> encoder = scl.pp.encode(study.mdata["rna"], encoder="pca", n_components=20, rng=0)
    >>> encoder = scl.pp.encode(rna, encoder=encoder)
    >>> columns = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
    >>> options = {"pair_on": ["perturbation", "dose"], "rng": 0, "max_epochs": 2, "enable_progress_bar": False}
    >>> model = scl.tl.semiclip(study.mdata, student_rep="X_pca", teacher_rep="X_image", **columns, **options)
    >>> scl.tl.embed(rna, model)
    >>> explain = {"encoder": encoder, "method": "center", "rng": 0, **columns}
    >>> table = scl.tl.gene_attribution(rna, use_rep="X_semiclip", model=model, perturbation="gene_00", **explain)
    >>> pathway = rna.varm["pathways"]["pathway_0"]
    >>> [bool(pathway[gene] != 0) for gene in table["gene"].head(3)]
    [True, True, True]

    What the images brought, as shares of the whole in either representation:

    >>> before = scl.tl.gene_attribution(rna, use_rep="X_pca", perturbation="gene_00", **explain)
    >>> shares = [part.set_index("gene")["attribution"] / part["attribution"].sum() for part in (table, before)]
    >>> brought = (shares[0] - shares[1]).sort_values(ascending=False)

    The gene sets of the ten genes that add most, among all genes:

    >>> pathways = {name: list(column.index[column != 0]) for name, column in rna.varm["pathways"].items()}
    >>> table["top"] = table["rank"] <= 10
    >>> scl.tl.enrich(table, inside="top", gene_sets=pathways)["gene_set"].iloc[0]
    'pathway_0'
    """
    design = Design.of(perturbation_key=perturbation_key, control=control, batch_key=batch_key)
    spec = CorrectionSpec(method, profile, ridge, fallback=fallback)
    check_whole("n_steps", n_steps)
    check_whole("n_permutations", n_permutations, 0)
    names = _read_names(perturbation, pair)
    values = read_representation(check_adata(adata), use_rep)
    _check_counts(
        adata, use_rep if model is None else getattr(model, "representations", {}).get("student_rep", use_rep)
    )
    batch, batch_names = design.batches(adata)
    reference, labels = design.reference(adata), design.perturbations(adata)
    treated = ~design.controls(adata)
    rows_of = [np.flatnonzero(treated & (labels == name).to_numpy(bool)) for name in names]
    for name, rows in zip(names, rows_of, strict=True):
        if not rows.size:
            raise UnknownChoice("perturbation" if pair is None else "pair", name, labels[treated].unique().tolist())
    pools, pool_of = _pool_reference(batch, reference, np.unique(batch[np.concatenate(rows_of)]), fallback, batch_names)

    announce_loading("torch")
    from semiclip.tl._gene_map import map_genes

    used = np.union1d(np.flatnonzero(reference), np.concatenate(rows_of))
    chains = fit_chains(spec, values, batch, reference, list(batch_names), used)
    # directions of what is stored, which the rows of the map are compared with
    means = [_average(values, batch, rows, chains) for rows in rows_of]
    centres = [_average(values, batch, rows, chains) for rows in pools]
    origins = [np.mean([centres[pool_of[code]] for code in batch[rows].tolist()], axis=0) for rows in rows_of]
    directions = _choose_directions(means, names, origins)
    gene_map = map_genes(adata, encoder, model, design, fallback, used)
    with warn_once():
        means_of_pools = [_average_genes(adata, gene_map, rows, batch, values, use_rep) for rows in pools]
        controls = {code: means_of_pools[pool] for code, pool in pool_of.items()}
        parts = [
            _attribute(adata, gene_map, rows, batch, controls, chains, direction, values, use_rep, n_steps)
            for rows, direction in zip(rows_of, directions, strict=True)
        ]
    table = _make_table(gene_map.genes, parts, n_permutations, rng)
    explained = {"use_rep": use_rep, "perturbations": [str(name) for name in names]}
    table.attrs |= {**explained, "reference": "all rows" if design.control is None else "controls"}
    return table


def _read_names(perturbation: Any, pair: Sequence[Any] | None) -> list[Any]:
    if perturbation is None and pair is None:
        raise NotGiven("perturbation", "name one, or two as pair=")
    if perturbation is not None and pair is not None:
        raise Conflict("perturbation", "pair", "pass one of them")
    if pair is None:
        if not _is_label(perturbation):
            raise BadValue("perturbation", perturbation, "one label; two as pair=")
        return [perturbation]
    names = list(pair) if isinstance(pair, Iterable) and not isinstance(pair, str) else [pair]
    if len(names) != 2 or not all(map(_is_label, names)) or names[0] == names[1]:
        raise BadValue("pair", pair, "two different perturbations")
    return names


def _check_counts(adata: AnnData, use_rep: str) -> None:
    """Refuse an embedding of z-scores, which has another map than the one of counts that encoders tell."""
    made: Any = adata.uns
    for key in ("semiclip", use_rep, "params"):
        made = made.get(key) if isinstance(made, Mapping) else None
    if isinstance(made, Mapping) and made.get("zscores"):
        problem = f"obsm[{use_rep!r}] was made of z-scores, of which the encoder tells no map"
        raise Refused(problem, way_out="explain samples whose counts were encoded")


def _is_label(value: Any) -> bool:
    return pd.api.types.is_scalar(value) and not pd.isna(value)


def _pool_reference(
    batch: np.ndarray, reference: np.ndarray, codes: np.ndarray, fallback: Fallback, names: pd.Index
) -> tuple[list[np.ndarray], dict[int, int]]:
    """Return pools of reference rows, and which of them each batch is compared with.

    That is its own reference or, where a correction borrows, all of it, a last pool that short batches share.
    """
    everywhere = np.flatnonzero(reference)
    own = {code: everywhere[batch[everywhere] == code] for code in codes.tolist()}
    short = [code for code, rows in own.items() if len(rows) < 2 and fallback == "pooled"]
    if few := {names[code]: 0 for code, rows in own.items() if not (everywhere if code in short else rows).size}:
        raise TooFewControls(few, 1, len(everywhere))
    pools = {code: rows for code, rows in own.items() if code not in short}
    pool_of = {code: place for place, code in enumerate(pools)} | dict.fromkeys(short, len(pools))
    return [*pools.values(), *([everywhere] if short else [])], pool_of


def _average(values: np.ndarray, batch: np.ndarray, rows: np.ndarray, chains: Mapping[int, Affine]) -> np.ndarray:
    """Return the mean of corrected rows, shape (d,)."""
    total: Any = 0.0
    for code in np.unique(batch[rows]).tolist():
        of_batch = rows[batch[rows] == code]
        total = total + chains[code](values[of_batch].astype(np.float64)).sum(axis=0)
    return total / len(rows)


def _choose_directions(means: list[np.ndarray], names: Sequence[Any], origins: list[np.ndarray]) -> list[np.ndarray]:
    """Return for each perturbation the vector on which its mean is projected, shape (d,)."""
    if len(means) == 1:
        means = [means[0] - origins[0]]
    lengths = [float(np.linalg.norm(mean)) for mean in means]
    if still := [name for name, length in zip(names, lengths, strict=True) if not length > 0]:
        raise NoVariation("the mean of a perturbation that lies on the controls", still, "choose another")
    if len(means) == 1:
        return [means[0] / lengths[0]]
    scale = 2 * lengths[0] * lengths[1]
    return [means[1] / scale, means[0] / scale]


def _read_blocks(adata: AnnData, gene_map: GeneMap, rows: np.ndarray, per_row: int) -> Iterator[tuple[slice, Any]]:
    """Yield expression as the encoder reads it, float64, a few rows at a time."""
    for block in row_blocks(len(rows), rows_at_once(VALUES, per_row)):
        part = adata[rows[block]]
        yield block, gene_map.read(part.to_memory() if adata.isbacked else part).astype(np.float64)


def _average_genes(
    adata: AnnData, gene_map: GeneMap, rows: np.ndarray, batch: np.ndarray, values: np.ndarray, use_rep: str
) -> np.ndarray:
    """Return the mean expression of rows, shape (n_genes,), which must be those of the representation."""
    total, per_row = np.zeros(len(gene_map.genes)), max(len(gene_map.genes), gene_map.widest)
    for block, x in _read_blocks(adata, gene_map, rows, per_row):
        total += x.sum(axis=0)
        numbers, hidden = rows[block], gene_map.enter(x)
        for code in np.unique(batch[numbers]).tolist():
            of_batch = np.flatnonzero(batch[numbers] == code)
            made = gene_map.represent(hidden[of_batch], code)
            _check_made(adata, numbers[of_batch], made, values[numbers[of_batch]], use_rep)
    return total / len(rows)


def _attribute(
    adata: AnnData,
    gene_map: GeneMap,
    rows: np.ndarray,
    batch: np.ndarray,
    controls: dict[int, np.ndarray],
    chains: Mapping[int, Affine],
    direction: np.ndarray,
    values: np.ndarray,
    use_rep: str,
    n_steps: int,
) -> Part:
    """Return what genes add to the projection of the mean of corrected rows on a direction."""
    codes, n_genes = np.unique(batch[rows]).tolist(), len(gene_map.genes)
    contributions, value, baseline = np.zeros(n_genes), 0.0, 0.0
    changes, weights = np.zeros((2, len(codes), n_genes))
    per_row = max(n_genes, 1 if gene_map.is_linear else n_steps * gene_map.widest)
    for place, code in enumerate(codes):
        of_batch, (shift, weight) = rows[batch[rows] == code], chains[code]
        # the correction of a projection is the projection on another direction
        onto = direction if weight is None else weight * direction if weight.ndim == 1 else weight @ direction
        offset = 0.0 if shift is None else float(shift @ onto)
        start = gene_map.enter(controls[code][None])
        of_controls = gene_map.represent(start, code)
        baseline += len(of_batch) * (float(of_controls[0] @ onto) - offset)
        for block, x in _read_blocks(adata, gene_map, of_batch, per_row):
            hidden = gene_map.enter(x)
            made = gene_map.represent(hidden, code)
            _check_made(adata, of_batch[block], made, values[of_batch[block]], use_rep)
            value += float((made @ onto).sum()) - len(x) * offset
            slope = gene_map.slope(hidden, start, code, onto, n_steps)
            change = x - controls[code]
            changes[place] += change.sum(axis=0)
            weights[place] += np.broadcast_to(slope, x.shape).sum(axis=0)
            contributions += np.einsum("ng,ng->g", change, np.broadcast_to(slope, x.shape))
        weights[place] /= len(of_batch)
    n = len(rows)
    return Part(contributions / n, changes / n, weights, value / n, baseline / n)


def _check_made(adata: AnnData, rows: np.ndarray, made: np.ndarray, stored: np.ndarray, use_rep: str) -> None:
    """Refuse a representation that this map does not make, as by another encoder or model."""
    if made.shape[1] != stored.shape[1]:
        raise Mismatch(f"the width of {use_rep!r}", stored.shape[1], made.shape[1], WAY_OUT)
    distance = np.linalg.norm(made - stored, axis=1)
    if (wrong := distance > TOLERANCE * np.linalg.norm(stored, axis=1)).any():
        what = f"{use_rep!r} of {adata.obs_names[rows[wrong]][0]}"
        raise Mismatch(what, "something else", "what encoder and model make of its expression", WAY_OUT)


def _make_table(
    genes: pd.Index, parts: list[Part], n_permutations: int, rng: int | np.random.Generator | None
) -> pd.DataFrame:
    attribution = np.sum([part.contributions for part in parts], axis=0)
    signs = np.sign([part.changes.sum(axis=0) for part in parts])
    sign = np.where((signs == signs[0]).all(axis=0), signs[0], 2)
    words = np.array(["none", "up", "mixed", "down"], dtype=object)  # by the sign as a place
    order = np.lexsort([genes.astype(str), -np.abs(attribution)])
    columns = {"gene": genes, "attribution": attribution, "direction": words[sign.astype(int)]}
    table = pd.DataFrame(columns).iloc[order].reset_index(drop=True).assign(rank=np.arange(1, len(genes) + 1))
    if n_permutations:
        from scipy.stats import false_discovery_control

        changes, weights = (np.concatenate([getattr(part, name) for part in parts]) for name in ("changes", "weights"))
        p_value = count_exchanged(changes, weights, n_permutations, rng)[order]
        tested, p_adjusted = ~np.isnan(p_value), p_value.copy()
        p_adjusted[tested] = false_discovery_control(p_value[tested])
        table = table.assign(p_value=p_value, p_adjusted=p_adjusted)
    table.attrs |= {name: sum(getattr(part, name) for part in parts) for name in ("value", "baseline")}
    return table
