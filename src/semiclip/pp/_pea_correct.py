from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import numpy as np
from anndata import AnnData

from semiclip._arguments import check_choice
from semiclip._checks import check_adata, check_finite, check_writable, read_representation
from semiclip._design import Design
from semiclip._docs import document
from semiclip._provenance import record
from semiclip.correction import PEA, CorrectionSpec, Fallback, Method, Profile, augment
from semiclip.errors import IdleArgument

FIXED, DRAWN = ("method", "profile", "ridge", "coral_reg"), ("n_views", "pea", "rng")  # arguments of one kind only
STEP_BITS = np.array([1, 2, 4])  # centred, scaled, whitened


@document
def pea_correct(
    adata: AnnData,
    *,
    use_rep: str,
    perturbation_key: str | None = None,
    control: str | Sequence[str] | None,
    batch_key: str | None = None,
    method: Method = "tvn",
    profile: Profile = "clean",
    ridge: float | None = None,
    coral_reg: float | None = 0.5,
    fallback: Fallback = "raise",
    stochastic: bool = False,
    n_views: int = 1,
    pea: bool | PEA | Mapping[str, Any] = True,
    rng: int | np.random.Generator | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Correct an embedding for batch effects with the control samples of each batch.

    By default the correction is deterministic: one method in full, fitted on all controls. ``profile="batch"`` is how a
    model corrects its student at inference; ``profile="clean"`` with ``ridge=0.5`` is how it corrects its teacher.
    With ``stochastic=True`` it is Perturbation Embedding Augmentation (PEA; Bendidi et al., ICML 2025, section 3 and
    Appendix C, DOI 10.48550/arXiv.2505.21317) as a model in training sees it: each sample, controls too, draws a
    method, drops some of its steps and is corrected on a random part of the controls.

    The result is for clusters, plots and measures: a model in training would correct it once more.

    Parameters
    ----------
    adata
        Samples with an embedding and controls.
    use_rep
        Embedding in ``obsm``, or ``"X"``; shape (n_obs, d).
    {columns}
    method, profile, ridge, coral_reg
        The deterministic correction, see :func:`semiclip.correction.correct`; refused with ``stochastic=True``.
    fallback
        What happens to a batch with too few controls: an error, or the pooled controls of all batches.
    stochastic
        Draw corrections at random.
    n_views
        How many times each sample is drawn. This and the next two are refused without ``stochastic=True``.
    pea
        What to draw from: ``True`` for the defaults, or options of :class:`semiclip.correction.PEA`, such as
        ``{"methods": ["center"], "drop_probability": 0.25}``.
    rng
        Seed or generator of the draws; the same seed gives the same bits.
    key_added
        Key of the result in ``obsm``, ``f"{use_rep}_{method}"`` or ``f"{use_rep}_pea"`` by default.
    copy
        Return a corrected copy instead of writing into ``adata``.

    Returns
    -------
    ``None``, or the copy. ``obsm[key_added]`` is float32 of shape (n_obs, d), or narrower where the ``public``
    profile drops directions without control variance; ``uns["semiclip"][key_added]["params"]`` says how it was made.

    With ``stochastic=True``, ``obsm[key_added]`` holds the views side by side, shape (n_obs, n_views · d), and
    :func:`semiclip.pp.get_views` takes them apart. ``obsm[f"{key_added}_steps"]``, shape (n_obs, n_views), tells which
    steps a sample kept in each view: the sum of 1 for centre, 2 for scale and 4 for whiten. With the same shape,
    ``obsm[f"{key_added}_controls"]`` is the number of controls that it was corrected on, 0 where it kept no step.
    ``pea_correct(adata, **params)`` with the recorded parameters draws the same again, whatever ``rng`` was.

    Raises
    ------
    UnknownControl, TooFewControls, NoVariation
        If a control label matches nothing, a batch has too few controls, or controls do not vary.

    Examples
    --------
    >>> import semiclip as scl
    >>> images = scl.datasets.simulate(n_compounds=5, n_knockouts=20, n_pathways=5, n_genes=40, rng=0).mdata["image"]
    >>> keys = {"use_rep": "X_image", "perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
    >>> scl.pp.pea_correct(images, **keys)  # writes obsm["X_image_tvn"]
    >>> scl.pp.pea_correct(images, **keys, stochastic=True, pea={"methods": ["center_scale"]}, rng=0)
    >>> sorted(set(images.obsm["X_image_pea_steps"][:, 0].tolist()))  # none, centre, scale, both
    [0, 1, 2, 3]
    """
    chosen, defaults = locals(), signature(pea_correct).parameters
    if idle := [name for name in (FIXED if stochastic else DRAWN) if chosen[name] != defaults[name].default]:
        if stochastic:
            raise IdleArgument(idle, "with stochastic=True", "say what to draw from as pea={...}")
        raise IdleArgument(idle, "without stochastic=True", "add it to draw corrections at random")
    design = Design.of(perturbation_key=perturbation_key, control=control, batch_key=batch_key)
    check_choice("method", method, Method)
    spec = CorrectionSpec(method, profile, ridge, coral_reg, fallback)
    key = key_added or f"{use_rep}_{'pea' if stochastic else method}"
    check_writable(check_adata(adata), key, copy=copy)
    reference, (codes, names), x = design.reference(adata), design.batches(adata), read_representation(adata, use_rep)
    params: dict[str, Any] = {"use_rep": use_rep, **design.params, "key_added": key_added}
    drawn: dict[str, np.ndarray] = {}
    with np.errstate(over="ignore"):  # what float32 cannot hold is named next
        if stochastic:
            seed = int(rng if isinstance(rng, int | np.integer) else np.random.default_rng(rng).integers(2**63))
            draws: dict[str, Any] = {"n_views": n_views, "rng": seed, "fallback": fallback}
            views = augment(x, codes, reference, pea=pea, batch_names=names.tolist(), **draws)
            # side by side, since anndata joins two axes alone
            values, steps, n_controls = (np.ascontiguousarray(np.swapaxes(part, 0, 1)) for part in views)
            values = values.reshape(len(x), -1)
            drawn = {f"{key}_steps": (steps @ STEP_BITS).astype(np.uint8), f"{key}_controls": n_controls}
            # no limit is infinity, as files hold no None, which is left out where the choice is PEA's
            limits = {"max_controls": np.inf, "clip": np.inf}
            options = {k: limits.get(k) if v is None else v for k, v in (PEA.of(pea) or PEA()).params.items()}
            params |= {"stochastic": True, "pea": options, **draws}
        else:
            values = spec.fit(x, codes, reference, names.tolist())(x, codes).astype(np.float32, copy=False)
            params |= spec.params
    check_finite(values, adata.obs_names, "the corrected embedding")
    target = adata.copy() if copy else adata
    if "n_views" in target.uns.get("semiclip", {}).get(key, {}).get("params", {}):
        for part in ("steps", "controls"):  # of an earlier draw
            target.obsm.pop(f"{key}_{part}", None)
    target.obsm.update({key: values, **drawn})
    record(target, key, params)
    return target if copy else None
