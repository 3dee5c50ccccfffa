from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip._checks import batches, controls, finite_rows, nonempty, representation, some, writable
from semiclip._provenance import record
from semiclip.correction import correct
from semiclip.pp._pea_views import draw_views, replace_views

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

    from semiclip.correction import PEA, Fallback, Method, Profile

FIXED, DRAWN = ("method", "profile", "ridge", "coral_reg"), ("n_views", "pea", "rng")  # arguments of one kind only


def pea_correct(
    adata: AnnData,
    *,
    use_rep: str,
    control: str | Sequence[str] | None,
    perturbation_key: str | None = None,
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

    By default the correction is deterministic: one method in full, fitted on all controls, as the teacher, validation
    and inference use it. With ``stochastic=True`` it is Perturbation Embedding Augmentation (PEA) as a model in
    training sees it: each sample, controls too, draws a method, drops some of its steps and is corrected on a random
    part of the controls. That is for looking, as :func:`semiclip.pl.pea_views` does; a model draws by itself.

    The result is for clusters, plots and measures, not for training: a model corrects its ``student_rep`` by itself.
    One that is corrected already would be corrected once more, and leave PEA without uncorrected samples.

    Parameters
    ----------
    adata
        Samples with an embedding and controls.
    use_rep
        Embedding in ``obsm``, or ``"X"``; shape (n_obs, d).
    control, perturbation_key
        Label(s) of the controls and their ``obs`` column. ``control=None`` says that there are none: every row of a
        batch is then its reference, and what all treated rows have in common is corrected away.
    batch_key
        ``obs`` column of the batches, such as plate or experiment; ``None`` makes all rows one batch.
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
        Where in ``obsm`` the result goes, ``f"{use_rep}_{method}"`` or ``f"{use_rep}_pea"`` by default.
    copy
        Return a corrected copy instead of writing into ``adata``.

    Returns
    -------
    ``None``, or the copy. ``obsm[key_added]`` is float32 of shape (n_obs, d), or narrower where the ``public``
    profile drops directions without control variance; ``uns["semiclip"][key_added]["params"]`` says how it was made.

    Several views go to ``f"{key_added}_1"``, ``f"{key_added}_2"`` and so on. Beside each view, ``obs`` has
    ``f"{view}_steps"``, the steps that a sample kept (such as ``"none"`` or ``"center+scale"``), and
    ``f"{view}_controls"``, the number of controls that it was corrected on (0 where it kept no step). Views of an
    earlier call with the same ``key_added`` are replaced. ``pea_correct(adata, **params)`` with the recorded parameters
    draws the same again, whatever ``rng`` was.

    Raises
    ------
    KeyError
        If the embedding or a column is missing.
    ValueError
        If rows hold NaN or infinity, a control label matches nothing or a batch has too few controls.
    TypeError
        If arguments of the deterministic correction and of the random one are mixed.

    References
    ----------
    Bendidi et al., ICML 2025, section 3 and Appendix C, DOI 10.48550/arXiv.2505.21317.

    Examples
    --------
    >>> import semiclip as scl
    >>> images = scl.datasets.simulate(n_compounds=5, n_knockouts=20, n_pathways=5, n_genes=40).mdata["image"]
    >>> keys = {"use_rep": "X_image", "perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
    >>> scl.pp.pea_correct(images, **keys)
    >>> images.obsm["X_image_tvn"].shape[1]
    128
    >>> scl.pp.pea_correct(images, **keys, stochastic=True, pea={"methods": ["center_scale"]}, rng=0)
    >>> images.obsm["X_image_pea"].shape[1]
    128
    >>> images.obs["X_image_pea_steps"].cat.categories.tolist()
    ['none', 'center', 'scale', 'center+scale']
    """
    params = {name: value for name, value in locals().items() if name not in ("adata", "copy")}
    _refuse_mixture(params)
    key = key_added or f"{use_rep}_{'pea' if stochastic else method}"
    writable(nonempty(adata), key, copy=copy)
    reference = controls(adata, perturbation_key, control) if control is not None else np.ones(adata.n_obs, dtype=bool)
    codes, names = batches(adata, batch_key)
    x = representation(adata, use_rep)
    with np.errstate(over="ignore"):  # what float32 cannot hold is named next
        if stochastic:
            results, columns, params = draw_views(x, codes, reference, names.tolist(), key, params)
        else:
            how = {name: params[name] for name in (*FIXED, "fallback")}
            corrected = correct(x, codes, reference, batch_names=names.tolist(), **how)
            results, columns = {key: corrected.astype(np.float32, copy=False)}, {}
    for values in results.values():
        finite_rows(values, adata.obs_names, "the corrected embedding")
    target = adata.copy() if copy else adata
    replace_views(target, key, columns)
    target.obsm.update(results)
    idle = FIXED if stochastic else (*DRAWN, "stochastic")
    record(target, key, {name: value for name, value in params.items() if name not in idle})
    return target if copy else None


def _refuse_mixture(params: Mapping[str, Any]) -> None:
    defaults = signature(pea_correct).parameters
    names = FIXED if params["stochastic"] else DRAWN
    if given := [name for name in names if params[name] != defaults[name].default]:
        if params["stochastic"]:
            msg = (
                f"{some(given)} would have no effect with stochastic=True; say what to draw from as pea=, such as "
                'pea={"methods": ["center_scale"], "ridge": 0.1}'
            )
        else:
            msg = f"{some(given)} would have no effect without stochastic=True; add it to draw corrections at random"
        raise TypeError(msg)
