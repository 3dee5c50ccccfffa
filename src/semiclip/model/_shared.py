"""What is kept of what was learned: the teacher projected on what both sides share, and a model on other data."""

from __future__ import annotations

import logging
import os
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from lightning.pytorch.accelerators import AcceleratorRegistry
from scvi.train import SaveCheckpoint

from semiclip._arguments import check_choice, check_number, check_whole, read_whole
from semiclip._checks import get_modality, read_representation
from semiclip._design import SIDES, STUDENT, TEACHER
from semiclip._messages import warn
from semiclip._numerics import row_blocks
from semiclip._sides import Reading, check_columns, pair_sides, read_groups
from semiclip.correction import Correction
from semiclip.correction._steps import Affine
from semiclip.errors import BadValue, Conflict, NotFitted, Refused, TooMany, UnexpectedArgument, WrongType, some
from semiclip.errors._base import remembered
from semiclip.metrics import choose_weight, shared_directions
from semiclip.model._base import PairedModel, read_design
from semiclip.model._plan import MIN_LR
from semiclip.model._scvi_compat import FIELDS, SETUP_ARGS, SETUP_METHOD, STATE, devices_dsp, parse_device_args
from semiclip.objectives import PRESETS
from semiclip.objectives._presets import count_default_epochs, merge_rates, split_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData

    from semiclip._sides import SideArrays
    from semiclip.metrics import SharedDirections
    from semiclip.model._data import PairedDataModule
    from semiclip.model._model import SemiClip
    from semiclip.model._module import SemiClipModule

logger = logging.getLogger(__name__)

# training that starts from a reference: more epochs or a greater rate lose what it knows, see the page on saving
N_TUNING_EPOCHS, TUNING_RATE = 10, 0.1
OF_PLAN = ("optimizer", "lr", "momentum", "weight_decay", "schedule", "min_lr")
LEARNED = ("classes_", "part_scales_", "input_scale_", "projection_", "history_", "train_params_")  # beside weights


class Transferable(PairedModel):
    """A model that can go on from another one on other data."""

    reference_params_: dict[str, Any] | None = None  # how the reference was trained that this model started from
    _reading: Reading | None = None  # what was read to make the model, until it is trained

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was read, which can be read again."""
        return {**super().__getstate__(), "_reading": None}

    @classmethod
    @devices_dsp.dedent
    def load_query_data(
        cls,
        adata: AnnData | MuData,
        reference_model: Self | str | os.PathLike[str],
        *,
        accelerator: str = "auto",
        device: int | str = "auto",
        **columns: Any,
    ) -> Self:
        """Return a model of another screen that starts from what a reference model has learned, to be fine-tuned.

        Until it is trained, it embeds with the same bits as the reference. :meth:`train` then goes on from the weights
        of the reference, on the pairs of the new screen, whose batches, perturbations and controls may all be new: for
        10 epochs at a tenth of the reference's rate unless it is told otherwise, since more of either loses on few
        pairs what the reference knows. The reference and its data stay as they are.

        What stays fixed: widths, objective, corrections and the share of the distilled part (``distilled_weight``),
        also where the reference chose it; and, of a model that is taught what both sides share (``n_shared``, the
        recipe ``"shared"``), the directions that the teacher is projected on. They are not fitted anew, since few pairs
        do not show them; only the adapter learns. Of objectives with classes, heads start anew where the classes are
        others.

        Parameters
        ----------
        adata
            The new screen, as the reference was set up: a MuData of both modalities, or an AnnData that holds both
            representations. They must come from the encoders of the reference.
        reference_model
            A trained model, or the folder of a saved one.
        %(param_accelerator)s
        %(param_device)s
        **columns
            Arguments of :meth:`setup_mudata` or :meth:`setup_anndata` that differ from those of the reference, such as
            ``batch_key``.

        Returns
        -------
        A model of the new screen. ``history`` and ``train_params_["epochs"]`` go on from those of the reference.

        Raises
        ------
        ValueError
            If a representation has another width, other column names or another encoder than the reference's, or if
            there is no accelerator of that name.
        TypeError
            If an argument is none of the setup: objective, recipe and widths are those of the reference.

        Examples
        --------
        >>> import semiclip as scl
        >>> study = scl.datasets.simulate(n_compounds=20, n_knockouts=20, n_pathways=5, n_genes=40, rng=0)
        >>> encoder = scl.pp.encode(study.mdata["rna"], n_components=8)
        >>> encoder = scl.pp.encode(study.knockouts["rna"], encoder=encoder)
        >>> columns = {"pair_on": "perturbation", "perturbation_key": "perturbation", "control": "control"}
        >>> options = {"recipe": "whole", "max_epochs": 2, "enable_progress_bar": False, "batch_key": "batch"}
        >>> model = scl.tl.semiclip(study.mdata, student_rep="X_pca", teacher_rep="X_image", **columns, **options)
        >>> tuned = scl.model.SemiClip.load_query_data(study.knockouts, model)
        >>> tuned.train(enable_progress_bar=False)
        >>> tuned.get_latent_representation().shape
        (312, 128)
        """
        if not isinstance(reference_model, cls):
            if isinstance(reference_model, PairedModel) or not isinstance(reference_model, str | os.PathLike):
                needed = f"a scl.model.{cls.__name__} or the folder of a saved one"
                raise WrongType("reference_model", type(reference_model), needed)
            reference_model = cls.load(reference_model, False, "cpu")  # noqa: FBT003  # without data
        reference: Any = reference_model
        if not reference.is_trained_:
            raise NotFitted("the reference model", "train it first")
        known, init = reference.registry_[SETUP_ARGS], reference.init_params_
        if unknown := [name for name in columns if name not in known]:
            problem = f"{some(unknown)} cannot be changed, since the reference model is kept"
            raise UnexpectedArgument("load_query_data", unknown, problem, f"it takes {some(known, 99)}")
        # before the setup, which leaves its mark in the data
        check_choice("accelerator", accelerator, ["auto", "gpu", *AcceleratorRegistry])
        *_, torch_device = parse_device_args(accelerator, device, return_device="torch", validate_single_device=True)
        setup: dict[str, Any] = {**known, **columns}
        with remembered("the model", known.keys() - columns.keys()):
            design = read_design(setup)
            if design.pair_on is not None:  # an AnnData has one side alone
                get_modality(adata, design.teacher)
            elif hasattr(adata, "mod"):
                raise WrongType("the data", type(adata), "an AnnData that holds both", "one as the reference has")
            for side in (STUDENT, TEACHER):
                check_columns(adata, design, side)
                read_representation(design.side(adata, side), setup[f"{side}_rep"], f"{side}_rep")
            pair_sides(adata, design).report(design.student, design.teacher)
            getattr(cls, reference.registry_[SETUP_METHOD])(adata, source_registry=reference.registry_, **setup)
        more = {name: value for part in init["kwargs"].values() for name, value in part.items()}
        settings = dict(init["non_kwargs"])
        if "distilled_weight" in settings:  # few pairs cannot choose it, nor show that they cannot
            settings["distilled_weight"] = reference.train_params_.get("distilled_weight", settings["distilled_weight"])
        model: Any = cls(adata, **settings, **more)
        for name in LEARNED:
            setattr(model, name, deepcopy(getattr(reference, name)))
        model.reference_params_ = deepcopy(reference.reference_params_ or reference.train_params_)
        model.module.on_load(model)
        model.module.load_state_dict(reference.module.state_dict())
        model.to_device(torch_device)
        model.module.eval()
        model.is_trained_ = True
        return model


def choose_epochs(model: SemiClip, max_epochs: Any, preset: str) -> int:
    """Return the number of epochs: few, unless told, where a model starts from a reference."""
    has_encoder = model.module.encoder is not None
    default = count_default_epochs(model.module.objective_name, preset, trains_encoder=has_encoder)
    return read_whole("max_epochs", max_epochs, default=default if model.reference_params_ is None else N_TUNING_EPOCHS)


def choose_optimisation(
    model: SemiClip, preset: str, plan_kwargs: Mapping[str, Any], max_epochs: int
) -> dict[str, Any]:
    """Return the arguments of the training plan: those given, over a preset or over the gentle ones of fine-tuning."""
    start = {"optimizer": "sgd", "min_lr": MIN_LR, **PRESETS[model.module.objective_name][preset]}
    known = model.reference_params_
    if known is not None and preset == "default":
        start |= {name: known[name] for name in OF_PLAN if name in known}
        rate = start["lr"]
        gentle = {part: TUNING_RATE * value for part, value in split_rate(rate).items()}
        start["lr"] = gentle if isinstance(rate, dict) else gentle[STUDENT]
    optimisation = merge_rates(start, plan_kwargs, model.module.trained_parts)
    if known is not None:
        logger.info("fine-tuning a reference: %d epochs at the rate %s", max_epochs, optimisation["lr"])
    return optimisation


@dataclass(frozen=True)
class KeyMeans:
    """Mean rows of the keys that both sides have, (K, d) and (K, D), what a split must not tear apart, and their codes.

    The last two have shape (K,).
    """

    student: np.ndarray
    teacher: np.ndarray
    group: np.ndarray
    key: np.ndarray

    @cached_property
    def shared(self) -> SharedDirections:
        """Directions that both sides share over these keys."""
        return shared_directions(self.student, self.teacher, n_folds=0)


def read_data(model: SemiClip) -> Reading:
    """Return what the model has read of its data, if they are still the same, or start anew."""
    known = model._reading
    if known is None or not known.paired.is_current(model.adata, model.design) or not known.is_current():
        reps = {side: model.representations[f"{side}_rep"] for side in SIDES}
        learned = {side: model.registry_[FIELDS][side][STATE] for side in SIDES}
        known = model._reading = Reading(model._take_pairs(), reps, model._specs, learned)
    return known


def average_keys(reading: Reading, rows: np.ndarray | None = None) -> KeyMeans:
    """Average the corrected rows of both sides by key, of the student those that are numbered, by default all."""
    sides, corrections, pairing = reading.sides, reading.corrections, reading.pairing  # refused in this order
    n_keys = len(pairing.counts)
    numbers = {STUDENT: np.arange(len(pairing.student)) if rows is None else rows}
    codes = {STUDENT: pairing.student[numbers[STUDENT]], TEACHER: pairing.teacher}
    counts = [np.bincount(key[key >= 0], minlength=n_keys) for key in (pairing.student, *codes.values())]
    both = np.flatnonzero((counts[1] > 0) & (counts[2] > 0))
    known = reading.key_means
    if known is not None and (counts[0][both] == counts[1][both]).all():  # the rows are all of these keys
        kept = counts[1][known.key] > 0
        return KeyMeans(known.student[kept], known.teacher[kept], known.group[kept], both)
    design = reading.design.changed(split_key=None)  # of experiments there may be few, perturbations are many
    group = np.empty(n_keys + 1, dtype=np.int64)  # the last one is that of rows without a key
    group[pairing.student] = read_groups(reading.adata(STUDENT), design, pairing.student)
    place = np.full(n_keys + 1, -1)
    place[both] = np.arange(len(both))
    means = []
    for side, arrays in sides.items():
        kept = np.flatnonzero(place[codes[side]] >= 0)
        taken = numbers[side][kept] if side in numbers else kept
        of_row = place[codes[side][kept]]
        means.append(corrections[side].average(arrays.values, arrays.batch, taken, of_row, len(both)))
    return KeyMeans(means[0], means[1], group[both], both)


def check_weight(distilled_weight: Any, encoder: Any) -> None:
    """Refuse a share that is none, or one of the input of an encoder."""
    if distilled_weight == "auto":
        return
    if isinstance(distilled_weight, str):
        raise BadValue("distilled_weight", distilled_weight, "'auto' or a number from 0 to 1")
    check_number("distilled_weight", distilled_weight, least=0, most=1)
    if distilled_weight < 1 and encoder is not None:
        raise Conflict("distilled_weight", "an encoder that is trained", "leave it out")


def count_shared(model: SemiClip, n_shared: Any, encoder: Any = None) -> int:
    """Return on how many directions the teacher is projected: those that all keys show to be shared, unless told.

    It is one number, whatever the seed of the model.
    """
    if encoder is not None:
        raise Conflict("n_shared", "an encoder that is trained", "pass n_shared=None, or recipe='whole' to tl.semiclip")
    if n_shared != "auto":
        if isinstance(n_shared, str):
            raise BadValue("n_shared", n_shared, "'auto', None or a whole number of at least 0")
        check_whole("n_shared", n_shared, 0)  # a saved model may know that nothing is shared
        return int(n_shared)
    reading = read_data(model)
    means = reading.key_means = average_keys(reading)
    shared = shared_directions(means.student, means.teacher, groups=means.group, rng=0)
    logger.info("%d directions are shared beyond chance, by %d keys", shared.n, len(means.group))
    return shared.n


def fit_projection(means: KeyMeans, n: int) -> dict[str, np.ndarray]:
    """Fit the projection of teacher rows on ``n`` shared directions, each weighted by its correlation.

    A cosine then counts most what the student can know.
    """
    if n > (shared := means.shared).n:
        raise TooMany("shared directions (n_shared)", n, shared.n, "pass n_shared='auto' or fewer")
    return {"mean": shared.teacher_mean, "directions": shared.teacher[:, :n] * _weigh_directions(shared, n)}


def project(
    teacher: SideArrays, correction: Correction, rows: np.ndarray, projection: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Correct teacher rows and project them, (rows, n), as one map: no corrected copy of all dimensions is made."""
    mean, directions = projection["mean"], projection["directions"]
    if all(chain.weight is None for chain in correction.chains):  # a mean far from zero goes before digits are lost
        narrow, left = Affine(mean, directions), 0.0
    else:  # corrected rows lie around zero
        narrow, left = Affine(weight=directions), mean @ directions
    projected = Correction([chain.then(narrow) for chain in correction.chains])
    return (projected(teacher.values, teacher.batch, rows) - left).astype(np.float32)


def embed_teacher(model: SemiClip, data: AnnData | MuData) -> np.ndarray:
    """Return the rows of the teacher as the student's are compared with them, (rows, n_output)."""
    model._check_if_trained(warn=False)
    if not model.module.objective.spec.same_space:
        raise Refused(
            f"{model.module.objective_name!r} does not embed in the teacher's space", way_out="use 'semiclip'"
        )
    with remembered("the model", model.registry_[SETUP_ARGS]):
        arrays = model._read(data, TEACHER)
    correction, rows_taught = arrays.fit(model._specs[TEACHER]), np.arange(len(arrays.values))
    if model.projection_ is None:
        taught = correction(arrays.values, arrays.batch)
    else:
        taught = project(arrays, correction, rows_taught, model.projection_)
    module, n = model.module, model.module.n_output
    if model.init_params_["non_kwargs"]["n_shared"] == 0:
        raise Refused("student and teacher share nothing", way_out="train with n_shared=None")
    module.eval()
    out = np.empty((len(taught), n), dtype=np.float32)
    with torch.inference_mode():
        for rows in row_blocks(len(taught), module.block_rows):
            block = torch.as_tensor(np.require(taught[rows], np.float32, ["C", "W"]), device=module.device)
            out[rows] = module.teach(block).cpu().numpy()
    return out


def start_adapter(model: SemiClip, data: PairedDataModule, callbacks: Sequence[Any]) -> bool:
    """Start a linear adapter that was never trained from the teacher's projection as regression predicts it.

    Say whether there is anything to learn, which is not so where nothing is shared.
    """
    settings = model.init_params_["non_kwargs"]
    blends = settings["distilled_weight"] not in (1, "auto") or (
        settings["distilled_weight"] == "auto" and data.key_means is not None and model.design.control is None
    )
    if blends and any(isinstance(callback, SaveCheckpoint) for callback in callbacks):
        raise Conflict("SaveCheckpoint", "parts that are weighed after training", "pass distilled_weight=1")
    is_fresh = model.projection_ is None  # otherwise training goes on with what the adapter has learned
    if data.key_means is not None and is_fresh:
        model.projection_ = fit_projection(data.key_means, data.host.teacher.shape[1])
    if settings["n_shared"] == 0:
        return False
    layer: Any = model.module.adapter[0]
    n, is_linear = model.module.n_output, len(model.module.adapter) == 1
    if data.key_means is None or not is_fresh or not is_linear or n != data.host.teacher.shape[1]:
        return True
    shared = data.key_means.shared
    # the other corrections leave rows at about the scale of the controls, which is 1
    if model._specs[STUDENT].method in (None, "center"):
        model.module.input_scale = 1 / float(data.key_means.student.std())
    weight = (shared.student[:, :n] * (shared.correlations[:n] * _weigh_directions(shared, n))).T
    with torch.no_grad():
        layer.weight.copy_(torch.as_tensor(weight / model.module.input_scale))
        layer.bias.copy_(torch.as_tensor(-weight @ shared.student_mean))
    return True


def _weigh_directions(shared: SharedDirections, n: int) -> np.ndarray:
    """Return the correlations in a scale in which weighted directions have a mean variance of 1."""
    weight = shared.correlations[:n]
    return weight * np.sqrt(n / (weight**2).sum())


def weigh_parts(model: SemiClip, data: PairedDataModule) -> float:
    """Set the parts of a trained model's embeddings and return the share of the distilled one, from 0 to 1."""
    settings = model.init_params_["non_kwargs"]
    n_shared, weight = settings["n_shared"], settings["distilled_weight"]
    model.input_scale_ = model.module.input_scale
    if n_shared == 0:
        way_out = "pair more keys, or pass n_shared=None to distil the whole teacher"
        warn(f"student and teacher share no direction beyond chance: embeddings are the student's own; {way_out}")
        weight = 0.0
    elif weight == "auto":
        weight = 1.0
        if (means := data.key_means) is not None and model.design.control is None:
            n = model.module.n_output
            weight = choose_weight(means.student, means.teacher, n, groups=means.group, rng=data.seed).weight
    if n_shared is not None or weight < 1:
        read = data.infer or (lambda rows: data.host.student[rows].numpy())
        model.part_scales_ = scale_parts(model.module, read, data.train_idx, weight)
        model.module.part_scales = model.part_scales_
    return weight


def scale_parts(
    module: SemiClipModule, read: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, weight: float
) -> tuple[float, float]:
    """Return factors with which the distilled part has a share ``weight`` of an embedding, and the student the rest.

    Both are measured on training rows, over which the embedding has a mean square of 1.
    """
    squares = np.zeros(2)
    for block in row_blocks(len(rows), module.block_rows):
        seen = np.require(read(rows[block]), np.float32, ["C", "W"])
        distilled = module.embed_distilled(seen)
        squares += [np.square(part, dtype=np.float64).sum() / len(rows) for part in (distilled, seen)]
    shares = np.array([weight, 1 - weight])
    width = (np.array([module.n_output, module.n_input]) * (shares > 0)).sum()
    distilled, own = np.sqrt(shares * width / np.maximum(squares, np.finfo(np.float64).tiny)).tolist()
    return distilled, own
