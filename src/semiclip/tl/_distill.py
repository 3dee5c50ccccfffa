from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any

from semiclip._checks import modality, spare, writable
from semiclip._pairing import roles
from semiclip._seed import seeded
from semiclip.tl._embed import embed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from mudata import MuData

    from semiclip.correction import PEA
    from semiclip.model import Baseline, SemiClip


def distill(
    mdata: MuData,
    *,
    objective: str,
    student_rep: str,
    teacher_rep: str,
    pair_on: str | Sequence[str],
    control: str | Sequence[str] | None,
    perturbation_key: str | None = None,
    batch_key: str | None = None,
    split_key: str | None = None,
    label_key: str | None = None,
    modalities: Mapping[str, str] | None = None,
    key_added: str | None = None,
    max_epochs: int = 150,
    pea: bool | PEA | Mapping[str, Any] | None = None,
    rng: int | np.random.Generator | None = None,
    model_kwargs: dict[str, Any] | None = None,
    **train_kwargs: Any,
) -> SemiClip | Baseline:
    """Distil the teacher modality into the student modality with any objective: set up, train and embed in one call.

    Parameters
    ----------
    mdata
        Two modalities that share perturbation labels but no cells, each with an embedding in ``obsm``.
    objective
        The loss, by its name in :data:`semiclip.objectives.OBJECTIVES`: ``"semiclip"``, ``"clip"``, ``"siglip"``,
        ``"vicreg"`` and ``"dcca"`` need no labels, ``"kd"``, ``"shake"`` and ``"c2kd"`` learn from perturbations as
        classes. Or a baseline in closed form, by its name in :data:`semiclip.baselines.BASELINES`: ``"unimodal"``,
        ``"random"``, ``"ridge"``, ``"cca"``, ``"procrustes"`` or ``"knn"``.
    student_rep, teacher_rep, pair_on, perturbation_key, control, batch_key, split_key, label_key, modalities
        What the columns mean, see :meth:`semiclip.model.SemiClip.setup_mudata`.
    key_added
        Where in ``obsm`` of the student modality the distilled embedding goes, ``"X_"`` and the name of the objective
        if ``None``.
    max_epochs
        Training epochs; baselines have none.
    pea
        Perturbation Embedding Augmentation, on wherever ``control`` names controls; ``False`` turns it off, options of
        :class:`semiclip.correction.PEA` by name change it. Baselines are not augmented.
    rng
        Seed of weights, split and pairing; ``None`` follows ``scvi.settings.seed``.
    model_kwargs
        Further arguments of :class:`semiclip.model.SemiClip` or :class:`semiclip.model.Baseline`, such as ``n_hidden``,
        or those of the objective.
    **train_kwargs
        Further arguments of :meth:`semiclip.model.SemiClip.train`, such as ``batch_size`` or ``plan_kwargs``. Of a
        baseline, those of optimisation have no effect.

    Returns
    -------
    The trained model, with which :func:`semiclip.tl.embed` embeds other data. ``obsm[key_added]`` of the student
    modality is float32 of shape (n_obs, D) with D the width of the teacher, or ``n_components`` of ``"dcca"`` and
    ``"cca"``, and ``uns["semiclip"][key_added]["params"]`` says how it was made, with ``rng`` and the number of
    ``shared_keys``.

    Raises
    ------
    KeyError, ValueError, TypeError
        If the data are not as described, or the objective or an argument is not known; nothing is written then.

    References
    ----------
    Bendidi et al., ICML 2025, section 3, DOI 10.48550/arXiv.2505.21317.

    Examples
    --------
    >>> import semiclip as scl
    >>> mdata = scl.datasets.simulate(n_compounds=20, n_knockouts=20, n_pathways=5, n_genes=40).mdata
    >>> encoder = scl.pp.encode(mdata["rna"], encoder="pca", n_components=8)
    >>> model = scl.tl.distill(
    ...     mdata,
    ...     objective="vicreg",
    ...     student_rep="X_pca",
    ...     teacher_rep="X_image",
    ...     pair_on=["perturbation", "dose"],
    ...     perturbation_key="perturbation",
    ...     control="control",
    ...     batch_key="batch",
    ...     max_epochs=2,
    ...     rng=0,
    ...     enable_progress_bar=False,
    ... )
    >>> mdata["rna"].obsm["X_vicreg"].shape
    (432, 128)
    """
    from semiclip.baselines import BASELINES
    from semiclip.model import Baseline, SemiClip
    from semiclip.model._arguments import check_arguments
    from semiclip.objectives import OBJECTIVES

    model_kwargs = model_kwargs or {}
    if own := [name for name in ("objective", "method") if name in model_kwargs]:
        msg = f"model_kwargs has {own[0]}= of its own; pass objective= to scl.tl.distill instead"
        raise ValueError(msg)
    if objective not in OBJECTIVES and objective not in BASELINES:
        msg = f"objective={objective!r} is not one of {', '.join([*OBJECTIVES, *BASELINES])}"
        raise ValueError(msg)
    model_cls = SemiClip if objective in OBJECTIVES else Baseline
    check_arguments(model_cls, objective, train_kwargs, caller=distill)
    key_added = f"X_{objective}" if key_added is None else key_added
    writable(modality(mdata, roles(modalities)["student"]), key_added)
    spare(key_added, student_rep)
    before = dict(mdata.uns)
    model_cls.setup_mudata(
        mdata,
        student_rep=student_rep,
        teacher_rep=teacher_rep,
        pair_on=pair_on,
        perturbation_key=perturbation_key,
        control=control,
        batch_key=batch_key,
        split_key=split_key,
        label_key=label_key,
        modalities=modalities,
    )
    try:
        with seeded(rng):
            model: SemiClip | Baseline
            if objective in OBJECTIVES:
                model = SemiClip(mdata, objective=objective, **model_kwargs)
            else:
                model = Baseline(mdata, method=objective, **model_kwargs)
            model.train(max_epochs, pea=pea, **train_kwargs)
    except BaseException:
        mdata.uns = before  # what the setup left there to find the data again
        raise
    if rng is not None:
        model.train_params_["rng"] = int(rng) if isinstance(rng, Integral) else type(rng).__name__
    embed(mdata, model, key_added=key_added)
    return model
