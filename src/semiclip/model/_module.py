from __future__ import annotations

from collections.abc import Iterable, Mapping
from inspect import signature
from itertools import pairwise
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from semiclip._arguments import check_choice
from semiclip._numerics import row_blocks, single_precision
from semiclip.correction import PEA
from semiclip.encoders._network import build
from semiclip.errors import BadValue, Conflict, Mismatch, UnexpectedArgument, WrongType, some
from semiclip.objectives import OBJECTIVES, LabelObjective
from semiclip.objectives._paper import STUDENT_HIDDEN, TEACHER_HIDDEN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from semiclip._design import Design
    from semiclip.correction import CorrectionSpec
    from semiclip.model._data import PairedDataModule
    from semiclip.model._model import SemiClip
    from semiclip.objectives import Objective


DISTILLED_ALONE = (1.0, 0.0)
BLOCK = 1 << 14  # rows embedded at a time
FEW_KEYS = 500  # with fewer pairing keys a small adapter generalises better: see n_hidden of SemiClip
SMALL = (64,)


def make_adapter(widths: Sequence[int]) -> nn.Sequential:
    """Return linear maps of the given widths with ReLU between them (paper A.2)."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def read_widths(layers: nn.Sequential) -> list[int]:
    """Return the widths that an adapter was made with."""
    maps = [layer for layer in layers if isinstance(layer, nn.Linear)]
    return [maps[0].in_features, *(layer.out_features for layer in maps)]


class SemiClipModule(nn.Module):
    """The student's adapter and its objective, with a trainable encoder and an adapter of the teacher where asked for.

    Parameters
    ----------
    n_input, n_hidden, n_teacher
        Widths of the student, of the hidden layers and of the teacher; the objective says how wide the output is.
    objective
        Name of the objective in :data:`semiclip.objectives.OBJECTIVES`.
    teacher_hidden
        Widths of the hidden layers of the teacher's adapter; ``None`` leaves the teacher as it is.
    encoder
        Architecture of an encoder before the student's adapter, see :func:`semiclip.encoders.build`; ``None`` where
        the student is encoded already.
    **objective_kwargs
        Arguments of the objective.
    """

    @single_precision()
    def __init__(
        self,
        n_input: int,
        n_hidden: Sequence[int],
        n_teacher: int,
        *,
        objective: str = "semiclip",
        teacher_hidden: Sequence[int] | None = None,
        encoder: Mapping[str, Any] | None = None,
        **objective_kwargs: Any,
    ) -> None:
        super().__init__()
        self.objective_name, self.n_input = objective, n_input
        self.objective: Objective = OBJECTIVES[objective](**objective_kwargs)
        self.n_output = self.objective.width(n_teacher)
        self.encoder = None if encoder is None else build(encoder)
        n_encoded = n_input if encoder is None else encoder["n_output"]
        self.adapter = make_adapter([n_encoded, *n_hidden, self.n_output])
        self.teacher_adapter = (
            None if teacher_hidden is None else make_adapter([n_teacher, *teacher_hidden, self.n_output])
        )
        # factors of the distilled part and of the student's own in an embedding, which no gradient knows of
        self.part_scales, self.input_scale = DISTILLED_ALONE, 1.0

    @property
    def min_batch_size(self) -> int:
        """Fewest rows of a mini-batch; the teacher has the width of the embedding here."""
        return self.objective.min_batch_size(self.n_output, self.n_output)

    @property
    def capturable(self) -> bool:
        """Whether a training step runs without waiting for the device, as one that is captured as a graph must."""
        return self.objective.spec.capturable and getattr(self.encoder, "capturable", True)

    @property
    def block_rows(self) -> int:
        """Rows that are embedded at a time, which a large encoder has fewer of."""
        return getattr(self.encoder, "block_rows", BLOCK)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return what can be learned, by the part whose learning rate it has."""
        modules: dict[str, nn.Module | None] = {
            "student": self.adapter,
            "encoder": self.encoder,
            "teacher": self.teacher_adapter,
        }
        if isinstance(self.objective, LabelObjective):
            modules |= self.objective.heads.items()
        parts = {name: list(module.parameters()) for name, module in modules.items() if module is not None}
        assigned = {id(parameter) for parameters in parts.values() for parameter in parameters}
        if left := [parameter for parameter in self.objective.parameters() if id(parameter) not in assigned]:
            parts["objective"] = left
        return parts

    @property
    def trained_parts(self) -> list[str]:
        """Names of the parts that distillation trains, also of heads that are not made yet."""
        names = dict.fromkeys([*self.parts(), *getattr(self.objective, "heads_of", ())])
        return [name for name in names if name not in self.objective.spec.frozen]

    def describe(self, settings: Mapping[str, Any]) -> str:
        """Return widths and settings in words."""
        encoder = [] if self.encoder is None else ["encoder"]
        widths = [self.n_input, *encoder, *read_widths(self.adapter)[1:]]
        if self.teacher_adapter is not None:
            settings = {**settings, "teacher adapter": " → ".join(map(str, read_widths(self.teacher_adapter)))}
        named = ", ".join(f"{name}: {value}" for name, value in settings.items())
        return f"SemiClip model with adapter {' → '.join(map(str, widths))}, {named}."

    @single_precision()
    def set_classes(self, n_classes: int) -> None:
        """Make the objective's heads for so many classes."""
        objective: Any = self.objective
        objective.set_classes(self.n_output, self.n_output, n_classes)
        objective.to(self.device)

    def forward(self, student: Tensor) -> Tensor:
        """Embed student rows (n, n_input), in n_output dimensions."""
        if self.encoder is not None:
            return self.adapter(self.encoder(student))
        return self.adapter(student if self.input_scale == 1 else student * self.input_scale)

    def teach(self, teacher: Tensor) -> Tensor:
        """Return teacher rows (n, n_teacher) as the objective sees them, in n_output dimensions."""
        return teacher if self.teacher_adapter is None else self.teacher_adapter(teacher)

    def embed(self, read: Callable[[slice], np.ndarray], n: int, block: int) -> np.ndarray:
        """Embed ``n`` rows, reading a block at a time: the distilled part, and beside it the student's own, float32.

        Either part is left out where its scale is 0.
        """
        scales, makers = self.part_scales, (self.embed_distilled, lambda seen: seen)
        width = sum(size for size, scale in zip((self.n_output, self.n_input), scales, strict=True) if scale)
        out = np.empty((n, width), dtype=np.float32)
        for rows in row_blocks(n, block):
            seen = np.require(read(rows), np.float32, ["C", "W"])
            parts = [make(seen) * np.float32(scale) for make, scale in zip(makers, scales, strict=True) if scale]
            np.concatenate(parts, axis=1, out=out[rows])
        return out

    @single_precision()
    @torch.inference_mode()
    def embed_distilled(self, seen: np.ndarray) -> np.ndarray:
        """Embed rows (n, n_input) in evaluation mode by what was distilled alone, (n, n_output)."""
        self.eval()
        return self(torch.as_tensor(seen, device=self.device)).cpu().numpy()

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device

    def on_load(self, model: Any, **kwargs: Any) -> None:
        """Take the scales and make the heads that a saved model had, before scvi-tools loads their weights."""
        self.part_scales, self.input_scale = tuple(model.part_scales_), model.input_scale_
        if model.classes_ is not None:
            self.set_classes(len(model.classes_))


def complete_arguments(objective: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return all arguments of an objective, with its defaults for those that are left out."""
    check_choice("objective", objective, OBJECTIVES)
    defaults = {name: parameter.default for name, parameter in signature(OBJECTIVES[objective]).parameters.items()}
    if unknown := [name for name in arguments if name not in defaults]:
        takes = f"objective={objective!r} takes {some(defaults, 99)}"
        raise UnexpectedArgument("SemiClip", unknown, f"got unexpected arguments {some(unknown)}", takes)
    return {**defaults, **arguments}


def choose_widths(
    n_hidden: Sequence[int] | str,
    teacher_adapter: bool | Sequence[int] | None,  # noqa: FBT001  # as users pass it: on, off or widths
    objective: str,
    n_shared: int | None,
    count_keys: Callable[[], int],
) -> tuple[list[int], list[int] | Literal[False]]:
    """Return the widths of the hidden layers of both adapters; ``False`` for a teacher without an adapter."""
    if n_hidden != "auto" and not _are_widths(n_hidden):
        raise BadValue("n_hidden", n_hidden, "'auto' or a list of widths of at least 1")
    if teacher_adapter is None:
        teacher_adapter = OBJECTIVES[objective].spec.adapts_teacher
    if not isinstance(teacher_adapter, bool) and not _are_widths(teacher_adapter):
        raise BadValue("teacher_adapter", teacher_adapter, "True, False, None or a list of widths of at least 1")
    if isinstance(n_hidden, str) and n_shared is not None:  # the shared directions are linear in the student
        n_hidden = []
    few = (isinstance(n_hidden, str) or teacher_adapter is True) and count_keys() < FEW_KEYS
    if isinstance(n_hidden, str):
        n_hidden = SMALL if few else STUDENT_HIDDEN
    if isinstance(teacher_adapter, bool):
        widths = SMALL if few else TEACHER_HIDDEN
        return list(n_hidden), list(widths) if teacher_adapter else False
    return list(n_hidden), list(teacher_adapter)


def choose_pea(module: SemiClipModule, pea: Any, design: Design, correction: CorrectionSpec) -> PEA | None:
    """Return what PEA draws from; of ``None``, the paper's where there are controls and the encoder is frozen."""
    if pea is None:  # PEA changes embeddings, not expression
        pea = design.control is not None and module.encoder is None
    options = PEA.of(pea)
    if options and module.encoder is not None and correction.method is None:
        mend = "make the model with student_correction='tvn', or leave out pea"
        raise Conflict("pea", "a student that is not corrected", mend)
    return options


def make_heads(model: SemiClip, data: PairedDataModule) -> bool:
    """Make heads for the classes of the training rows, unless the model has them; say whether they are new."""
    if model.is_trained_ and model.classes_ is not None and np.array_equal(model.classes_, data.classes):
        return False
    model.module.set_classes(len(data.classes))
    model.classes_, model.is_trained_ = data.classes, False  # until distillation ends, with curves of its own
    return True


def _are_widths(widths: Any) -> bool:
    if not isinstance(widths, Iterable) or isinstance(widths, str | Mapping):
        return False
    return all(isinstance(width, Integral) and not isinstance(width, bool) and int(width) >= 1 for width in widths)


def check_encoder(encoder: Any, n_input: int) -> None:
    """Refuse an encoder that does not read what ``student_rep`` holds."""
    if encoder is None:
        return
    if not hasattr(encoder, "keys") or not {"n_input", "n_output"} <= set(encoder.keys()):
        needed = "an encoder that can be trained (PCA, scVI, scGPT, MLPEncoder), its architecture, or None"
        raise WrongType("encoder", type(encoder), needed)
    if encoder["n_input"] != n_input:
        mend = "write what the encoder reads by scl.pp.expression(adata, encoder=encoder), and name that as student_rep"
        raise Mismatch("the width of student_rep", n_input, encoder["n_input"], mend)
