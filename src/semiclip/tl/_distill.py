"""The whole way in one call, set up, train, embed; and embedding new samples."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, get_args

from semiclip._arguments import AS_IN_SETUP, check_choice
from semiclip._checks import check_writable, get_modality
from semiclip._design import STUDENT, TEACHER, Design
from semiclip._docs import document
from semiclip._provenance import record
from semiclip._seed import seeded
from semiclip.errors import Conflict, UnexpectedArgument, WrongType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from anndata import AnnData
    from mudata import MuData

    from semiclip.correction import PEA, Fallback
    from semiclip.model import Baseline, SemiClip

Recipe = Literal["shared", "whole", "paper"]  # of tl.semiclip
WholeRecipe = Literal["whole", "paper"]  # of any objective, which the whole teacher teaches
# of the model, of its training and of the training plan; what a caller names goes before
SHARED: tuple[dict[str, Any], ...] = (
    {"n_shared": "auto", "distilled_weight": "auto"},
    {"max_epochs": 10},
    {"lr": 0.01},
)


@document
def semiclip(
    mdata: MuData,
    *,
    student_rep: str,
    teacher_rep: str,
    pair_on: str | Sequence[str],
    perturbation_key: str | None = None,
    control: str | Sequence[str] | None,
    batch_key: str | None = None,
    split_key: str | None = None,
    unlabelled: str | Sequence[str] | None = None,
    separator: str | None = None,
    modalities: Mapping[str, str] | None = None,
    recipe: Recipe = "shared",
    key_added: str = "X_semiclip",
    max_epochs: int | None = None,
    pea: bool | PEA | Mapping[str, Any] | None = None,
    rng: int | np.random.Generator | None = None,
    model_kwargs: dict[str, Any] | None = None,
    **train_kwargs: Any,
) -> SemiClip:
    """Distil the teacher modality into the student modality with the CLIP loss: set up, train, embed in one call.

    :func:`distill` does the same with other objectives, of which it teaches the whole teacher.

    Parameters
    ----------
    mdata
        Two modalities that share perturbation labels but no cells, each with an embedding in ``obsm``.
    {pairing}
    {labels}
    {modalities}
    recipe
        What the adapter learns, and how; arguments in ``model_kwargs`` and of training go before.

        * ``"shared"``: of the teacher, the directions that the student shares with it, by a linear adapter that starts
          from their regression (``n_shared="auto"``, 10 epochs). Where nothing is shared, the embedding is the
          student's own, with a warning. Without controls, both sides are centred instead of whitened, and the student
          itself is kept beside what it learned as far as held-out teacher rows allow (``distilled_weight="auto"``).
        * ``"whole"``: the whole teacher, as in the paper, at a rate of 0.1, which was chosen on simulations, for
          50 epochs; for encoders that are trained, too, for 150.
        * ``"paper"``: the paper's settings alone, which need far more data than 1,000 keys
          (:data:`semiclip.objectives.PAPER`).

        In the benchmark of recipes ``"shared"`` recalls at least as much as the student alone in every regime, and far
        more than ``"whole"`` on average, see the page on methods.
    key_added
        Key of ``obsm`` of the student modality for the distilled embedding.
    max_epochs
        Training epochs, passes over the paired student samples; ``None`` is what the recipe says.
    {pea}
    {training}

    {trained}

    Examples
    --------
    >>> import semiclip as scl
    >>> mdata = scl.datasets.simulate(n_compounds=20, n_knockouts=20, n_pathways=5, n_genes=40).mdata
    >>> encoder = scl.pp.encode(mdata["rna"], encoder="pca", n_components=8)
    >>> columns = {"pair_on": ["perturbation", "dose"], "perturbation_key": "perturbation", "control": "control"}
    >>> options = {"batch_key": "batch", "recipe": "whole", "max_epochs": 2, "rng": 0, "enable_progress_bar": False}
    >>> model = scl.tl.semiclip(mdata, student_rep="X_pca", teacher_rep="X_image", **columns, **options)
    >>> mdata["rna"].obsm["X_semiclip"].shape
    (432, 128)
    """
    check_choice("recipe", recipe, get_args(Recipe))
    if refused := [name for name in ("objective", "label_key") if name in train_kwargs]:
        name = refused[0]
        way_out = f"call scl.tl.distill(mdata, {name}={train_kwargs[name]!r}, …) for another objective"
        raise UnexpectedArgument("scl.tl.semiclip", refused, "the objective is 'semiclip'", way_out)
    columns: dict[str, Any] = {"perturbation_key": perturbation_key, "control": control, "batch_key": batch_key}
    columns |= {"pair_on": pair_on, "split_key": split_key, "modalities": modalities, "key_added": key_added}
    columns |= {"unlabelled": unlabelled, "separator": separator}
    train_kwargs |= {"student_rep": student_rep, "teacher_rep": teacher_rep, "max_epochs": max_epochs, "pea": pea}
    of_distill: WholeRecipe = "paper" if recipe == "paper" else "whole"
    if recipe == "shared":
        of_model, of_training, of_plan = SHARED
        if control is None:  # whitening on all rows takes off what makes them differ
            of_model = {"student_correction": "center", "teacher_correction": "center", **of_model}
        model_kwargs = {**of_model, **(model_kwargs or {})}
        of_plan = {} if "preset" in train_kwargs else of_plan
        train_kwargs = _over(of_training, train_kwargs)
        train_kwargs["plan_kwargs"] = {**of_plan, **(train_kwargs.get("plan_kwargs") or {})}
    columns |= {"recipe": of_distill, "rng": rng, "model_kwargs": model_kwargs}
    model: Any = distill(mdata, objective="semiclip", **columns, **train_kwargs)
    return model


def _over(start: Mapping[str, Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments over those of a recipe, which stand where an argument is ``None``."""
    return {**start, **{name: value for name, value in named.items() if value is not None or name not in start}}


@document
def distill(
    mdata: MuData,
    *,
    objective: str,
    student_rep: str,
    teacher_rep: str,
    pair_on: str | Sequence[str],
    perturbation_key: str | None = None,
    control: str | Sequence[str] | None,
    batch_key: str | None = None,
    split_key: str | None = None,
    label_key: str | None = None,
    unlabelled: str | Sequence[str] | None = None,
    separator: str | None = None,
    modalities: Mapping[str, str] | None = None,
    recipe: WholeRecipe = "whole",
    key_added: str | None = None,
    max_epochs: int | None = None,
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
    {pairing}
    {label_key}
    {labels}
    {modalities}
    recipe
        How an objective is trained on the whole teacher; arguments in ``model_kwargs`` and of training go before.

        * ``"whole"``: at rates that were chosen on simulations, for 150 epochs, or 50 of ``"semiclip"`` on a frozen
          encoder, which recall as much at a third of the time.
        * ``"paper"``: with the paper's settings of this objective alone, however few the data are: widths of both
          adapters, options of the loss, epochs, rows of a mini-batch, optimiser and rates
          (:data:`semiclip.objectives.PAPER`). A mini-batch is all training rows where there are fewer. Not all of them
          learn something from few data, see the page on the paper's presets. Baselines have no such settings.
    key_added
        Key of ``obsm`` of the student modality for the distilled embedding; ``None`` is ``"X_"`` and the name of the
        objective.
    max_epochs
        Training epochs, passes over the paired student samples; ``None`` is what the recipe says. Baselines have none.
    {pea}
    {training}

    {trained}

    Examples
    --------
    >>> import semiclip as scl
    >>> mdata = scl.datasets.simulate(n_compounds=20, n_knockouts=20, n_pathways=5, n_genes=40).mdata
    >>> encoder = scl.pp.encode(mdata["rna"], encoder="pca", n_components=8)
    >>> columns = {"pair_on": ["perturbation", "dose"], "perturbation_key": "perturbation", "control": "control"}
    >>> options = {"objective": "vicreg", "batch_key": "batch", "max_epochs": 2, "enable_progress_bar": False}
    >>> model = scl.tl.distill(mdata, student_rep="X_pca", teacher_rep="X_image", **columns, **options)
    >>> mdata["rna"].obsm["X_vicreg"].shape
    (432, 128)
    """
    from semiclip.baselines import BASELINES
    from semiclip.model import Baseline, SemiClip
    from semiclip.model._base import check_training_arguments, list_read_keys
    from semiclip.objectives import OBJECTIVES, PAPER

    samples: dict[str, Any] = {"perturbation_key": perturbation_key, "control": control, "batch_key": batch_key}
    pairs: dict[str, Any] = {"pair_on": pair_on, "unlabelled": unlabelled, "separator": separator}
    design = Design.of(**samples, **pairs, split_key=split_key, label_key=label_key, modalities=modalities)
    reps = {"student_rep": student_rep, "teacher_rep": teacher_rep}
    train_kwargs |= {"max_epochs": max_epochs, "pea": pea}
    model_kwargs = model_kwargs or {}
    if doubled := [name for name in ("objective", "method") if name in model_kwargs]:
        way_out = "pass objective= to scl.tl.distill instead"
        raise UnexpectedArgument("model_kwargs", doubled, f"{doubled[0]} is the objective", way_out)
    check_choice("objective", objective, [*OBJECTIVES, *BASELINES])
    check_choice("recipe", recipe, get_args(WholeRecipe))
    if recipe == "paper":
        if objective not in PAPER:
            without = f"objective={objective!r}, for which the paper has no settings"
            raise Conflict("recipe='paper'", without, "leave out recipe")
        settings = PAPER[objective]
        model_kwargs = {**settings.model, **model_kwargs}
        train_kwargs = _over({**settings.training, "preset": "paper"}, train_kwargs)
    model_cls: Any = SemiClip if objective in OBJECTIVES else Baseline
    name = "objective" if model_cls is SemiClip else "method"
    check_training_arguments(SemiClip.train, model_cls, objective, train_kwargs, caller=distill)
    key_added = f"X_{objective}" if key_added is None else key_added
    reads = list_read_keys(design, reps, train_kwargs.get("views", train_kwargs.get("augment")))
    check_writable(get_modality(mdata, getattr(design, STUDENT)), key_added, reads=reads)
    before = dict(mdata.uns)
    model_cls.setup_mudata(mdata, **reps, **{"control": None, **design.params})
    try:
        with seeded(rng):
            model: SemiClip | Baseline = model_cls(mdata, **{name: objective}, **model_kwargs)
            model.train(**train_kwargs)
    except BaseException:
        mdata.uns = before  # without what the setup left there to find the data again
        raise
    if rng is not None:
        model.train_params_["rng"] = int(rng) if isinstance(rng, Integral) else type(rng).__name__
    embed(mdata, model, key_added=key_added)
    return model


def embed_teacher(
    adata: AnnData | MuData, model: SemiClip, *, key_added: str = "X_taught", copy: bool = False
) -> AnnData | MuData | None:
    """Embed samples of the teacher's modality as a model compares the student's embedding with them.

    They are corrected on their own controls, projected on what both sides share if the model was taught that, and
    adapted if it adapts the teacher: what :func:`cross_modal_retrieval` needs beside the distilled embedding, which is
    the leading ``model.module.n_output`` columns where the student itself stands beside it.

    Parameters
    ----------
    adata
        Samples with the model's teacher representation and ``obs`` columns: a MuData with the teacher modality, or
        that modality's AnnData.
    model
        A trained model.
    key_added
        Where in ``obsm`` of the teacher modality the embedding goes.
    copy
        Return a copy with the embedding instead of writing into ``adata``.

    Returns
    -------
    ``None``, or the copy. ``obsm[key_added]`` is float32 of shape (n_obs, n_output).

    Raises
    ------
    RuntimeError
        If the model is not trained.
    ValueError
        If both sides share nothing, or the objective does not embed in the teacher's space, as ``"dcca"``.

    Examples
    --------
    >>> import semiclip as scl
    >>> mdata = scl.datasets.simulate(n_compounds=40, n_knockouts=20, n_pathways=5, n_genes=40, rng=0).mdata
    >>> encoder = scl.pp.encode(mdata["rna"], encoder="pca", n_components=8)
    >>> columns = {"pair_on": ["perturbation", "dose"], "perturbation_key": "perturbation", "control": "control"}
    >>> columns["batch_key"] = "batch"
    >>> options = {"rng": 0, "max_epochs": 2, "enable_progress_bar": False}
    >>> model = scl.tl.semiclip(mdata, student_rep="X_pca", teacher_rep="X_image", **columns, **options)
    >>> scl.tl.embed_teacher(mdata, model)
    >>> reps = {"student_rep": "X_semiclip", "teacher_rep": "X_taught", "teacher_correction": None}
    >>> table = scl.tl.cross_modal_retrieval(mdata, **reps, **columns)
    >>> bool(table["value"].iloc[0] < 0.4)
    True
    """
    from semiclip.model._shared import embed_teacher as embed_side

    if not hasattr(model, "projection_"):
        raise WrongType("model", type(model), "a semiclip.model.SemiClip, which compares the student with a teacher")
    reads = list(model.representations.values())
    check_writable(model.design.side(adata, TEACHER), key_added, copy=copy, reads=reads)
    embedding = embed_side(model, adata)
    result = adata.copy() if copy else adata
    samples = model.design.side(result, TEACHER)
    samples.obsm[key_added] = embedding
    record(samples, key_added, {"model": type(model).__name__, **model.representations, **model.design.params})
    return result if copy else None


def embed(
    adata: AnnData | MuData,
    model: SemiClip | Baseline,
    *,
    perturbation_key: str | None = AS_IN_SETUP,
    control: str | Sequence[str] | None = AS_IN_SETUP,
    batch_key: str | None = AS_IN_SETUP,
    fallback: Fallback | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Embed transcriptomic samples with a trained model; no images are needed.

    Parameters
    ----------
    adata
        Samples with the model's student representation and ``obs`` columns: an AnnData, or a MuData with the student
        modality. Its batches are corrected with their own controls.
    model
        A trained model.
    perturbation_key, control, batch_key
        Names of these in the samples' ``obs``, where they differ from the model's setup; ``None`` where they have none.
        If the setup names several control labels, the samples need one of them.
    fallback
        What happens to a batch with fewer than two controls: an error (``"raise"``), or the ``"pooled"`` controls of
        all batches of these samples. ``None`` is what the model was made with.
    key_added
        Where in ``obsm`` of the student modality the embedding goes, ``"X_"`` and the name of the model's objective if
        ``None``: ``"X_semiclip"``, unless it was trained with another one.
    copy
        Return a copy with the embedding instead of writing into ``adata``.

    Returns
    -------
    ``None``, or the copy. ``obsm[key_added]`` is float32 of shape (n_obs, D). It is made of the student representation
    as the model corrects it on the controls of each batch, and so is ready for ``scanpy.pp.neighbors``.

    Raises
    ------
    RuntimeError
        If the model is not trained.
    KeyError, ValueError
        If the samples do not fit the model, see :meth:`semiclip.model.SemiClip.get_latent_representation`.

    Examples
    --------
    >>> import semiclip as scl
    >>> study = scl.datasets.simulate(n_compounds=20, n_knockouts=20, n_pathways=5, n_genes=40)
    >>> encoder = scl.pp.encode(study.mdata["rna"], encoder="pca", n_components=8)
    >>> columns = {"pair_on": ["perturbation", "dose"], "perturbation_key": "perturbation", "control": "control"}
    >>> options = {"batch_key": "batch", "recipe": "whole", "max_epochs": 2, "enable_progress_bar": False}
    >>> model = scl.tl.semiclip(study.mdata, student_rep="X_pca", teacher_rep="X_image", **columns, **options)
    >>> knockouts = study.knockouts["rna"]
    >>> encoder = scl.pp.encode(knockouts, encoder=encoder)
    >>> scl.tl.embed(knockouts, model)
    >>> knockouts.obsm["X_semiclip"].shape
    (312, 128)
    """
    design, params = model.design, model.init_params_
    key_added = f"X_{model.module.objective_name}" if key_added is None else key_added
    check_writable(design.side(adata, STUDENT), key_added, copy=copy, reads=model.read_keys)
    columns: dict[str, Any] = {"perturbation_key": perturbation_key, "control": control, "batch_key": batch_key}
    embedding = model.get_latent_representation(adata, **columns, fallback=fallback)
    result = adata.copy() if copy else adata
    samples = design.side(result, STUDENT)
    samples.obsm[key_added] = embedding
    columns = {name: value for name, value in columns.items() if value is not AS_IN_SETUP}
    recorded = {"model": type(model).__name__, **model.representations, **design.changed(**columns).params}
    recorded |= params["non_kwargs"]
    for arguments in (*params["kwargs"].values(), model.train_params_):  # of the objective, and of training
        recorded |= arguments
    if fallback is not None:
        recorded["fallback"] = fallback
    record(samples, key_added, recorded)
    return result if copy else None
