"""Losses of classes, and of what each side says of all classes."""

from __future__ import annotations

from dataclasses import replace
from math import pi
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, layer_norm, mse_loss

from semiclip._arguments import check_choice, check_number, check_whole
from semiclip._counter_rng import state
from semiclip.objectives._logits import (
    NonTarget,
    estimate_kendall,
    kendall,
    mutual_divergence,
    mutual_non_target_divergence,
    soft_divergence,
)
from semiclip.objectives._protocol import LabelObjective, Spec

FROZEN_TEACHER = replace(LabelObjective.spec, frozen=("teacher", "teacher_head"))
DEFAULTS: dict[str, dict[str, float]] = {
    "paper": {"temperature": 9.0, "alpha": 10.0, "beta": 1e-3},
    "original": {"temperature": 4.0, "alpha": 0.0, "beta": 1.0},
}
Variant = Literal["paper", "original"]
ShadowStart = Literal["fresh", "teacher"]
Average = Literal["kept", "all"]
PAIRS = 1  # sets these random numbers apart from others of the same counters


class Kd(LabelObjective):
    r"""Knowledge distillation: the student learns its classes, and what a pretrained teacher says of all classes.

    The loss (Hinton et al. 2015, DOI 10.48550/arXiv.1503.02531) is the mean over rows of

    .. math::

        \operatorname{CE}(u_S, y) + \alpha T^2 \operatorname{KL}(\sigma(u_T / T) \,\|\, \sigma(u_S / T)),

    where :math:`u_S` are the logits of the student's head, and :math:`u_T` those of the teacher's, which is frozen
    together with the teacher's adapter.

    Parameters
    ----------
    temperature, alpha
        :math:`T`, which softens both sides, and :math:`\alpha`, the weight of the teacher.
    """

    spec: ClassVar[Spec] = FROZEN_TEACHER

    def __init__(self, *, temperature: float = 9.0, alpha: float = 10.0) -> None:
        super().__init__()
        check_number("temperature", temperature, above=0)
        check_number("alpha", alpha, least=0)
        self.temperature, self.alpha = temperature, alpha

    def forward(self, student: Tensor, teacher: Tensor, label: Tensor) -> Tensor:
        """Return the loss of ``student`` rows (B, d) paired with ``teacher`` rows (B, D) of classes ``label`` (B,)."""
        student_logits = self.logits("student_head", student)
        with torch.no_grad():
            teacher_logits = self.logits("teacher_head", teacher)
        divergence = soft_divergence(student_logits, teacher_logits, self.temperature)
        return cross_entropy(student_logits, label) + self.alpha * divergence


class Shake(LabelObjective):
    r"""Shadow knowledge distillation: the student learns from a shadow of the teacher, which learns from the student.

    The shadow is a second head on the frozen embedding of the teacher. With the logits :math:`u_S` and :math:`u_T` of
    the heads and :math:`q` of the shadow, :math:`\operatorname{sg}`, which stops gradients, and
    :math:`D(a \leftarrow b) = T^2 \operatorname{KL}(\sigma(b / T) \,\|\, \sigma(a / T))`, the loss is in ``"paper"``

    .. math::

        \gamma \operatorname{CE}(u_S, y) + \alpha D(u_S \leftarrow \operatorname{sg} q)
        + \beta D(q \leftarrow \operatorname{sg} u_S) + D(q \leftarrow u_T)

    and in ``"original"``, where all logits are first normalised over classes and multiplied by :math:`\pi`,

    .. math::

        \gamma \operatorname{CE}(u_S, y) + \alpha D(u_S \leftarrow u_T)
        + \beta [D(q \leftarrow \operatorname{sg} u_S) + D(u_S \leftarrow \operatorname{sg} q)
        + \operatorname{CE}(q, y) + \operatorname{MSE}(q, u_T)].

    Parameters
    ----------
    variant
        The loss of the paper on transcriptomics (``"paper"``: Bendidi et al., ICML 2025, DOI
        10.48550/arXiv.2505.21317), or SHAKE as its authors published it (``"original"``: Li and Jin, Shadow knowledge
        distillation: bridging offline and online knowledge transfer, NeurIPS 2022).
    temperature, alpha, beta
        :math:`T`, :math:`\alpha` and :math:`\beta`; by default 9, 10 and 0.001 in ``"paper"``, 4, 0 and 1 in
        ``"original"``.
    gamma
        :math:`\gamma`, the weight of the classes.
    shadow_start
        What the shadow starts distillation from: random weights as in the released code of the paper (``"fresh"``), or
        a copy of the teacher's pretrained head (``"teacher"``). At the paper's rate of 1e-7 the shadow stays where it
        starts: a fresh one then tells the student nothing of the images, and a copy makes SHAKE the same as
        :class:`Kd`.

    Examples
    --------
    >>> import torch
    >>> from semiclip.objectives import Shake
    >>> objective = Shake(shadow_start="teacher")
    >>> objective.set_classes(n_student=4, n_teacher=5, n_classes=3)
    >>> objective.begin()
    >>> torch.equal(objective.heads["shadow"].weight, objective.heads["teacher_head"].weight)
    True
    """

    spec: ClassVar[Spec] = FROZEN_TEACHER
    heads_of: ClassVar[dict[str, str]] = {**LabelObjective.heads_of, "shadow": "teacher"}

    def __init__(
        self,
        *,
        variant: Variant = "paper",
        temperature: float | None = None,
        alpha: float | None = None,
        beta: float | None = None,
        gamma: float = 1.0,
        shadow_start: ShadowStart = "fresh",
    ) -> None:
        super().__init__()
        check_choice("variant", variant, Variant)
        check_choice("shadow_start", shadow_start, ShadowStart)
        weights = {"temperature": temperature, "alpha": alpha, "beta": beta}
        chosen = DEFAULTS[variant] | {name: number for name, number in weights.items() if number is not None}
        check_number("temperature", chosen["temperature"], above=0)
        for name, weight in {**chosen, "gamma": gamma}.items():
            check_number(name, weight, least=0)
        self.variant, self.gamma, self.shadow_start = variant, gamma, shadow_start
        self.temperature, self.alpha, self.beta = (chosen[name] for name in weights)

    def begin(self) -> None:
        """Make the shadow a copy of the teacher's head, or leave it as it was made, since pretraining passes it by."""
        if self.shadow_start == "teacher":
            self.heads["shadow"].load_state_dict(self.heads["teacher_head"].state_dict())

    def forward(self, student: Tensor, teacher: Tensor, label: Tensor) -> Tensor:
        """Return the loss of ``student`` rows (B, d) paired with ``teacher`` rows (B, D) of classes ``label`` (B,)."""
        u_s, q = self.logits("student_head", student), self.logits("shadow", teacher.detach())
        with torch.no_grad():
            u_t = self.logits("teacher_head", teacher)
        if self.variant == "original":
            u_s, q, u_t = (pi * layer_norm(logits, logits.shape[1:]) for logits in (u_s, q, u_t))
        to_student = soft_divergence(u_s, q.detach(), self.temperature)
        to_shadow = soft_divergence(q, u_s.detach(), self.temperature)
        loss = self.gamma * cross_entropy(u_s, label)
        if self.variant == "paper":
            from_teacher = soft_divergence(q, u_t, self.temperature)
            return loss + self.alpha * to_student + self.beta * to_shadow + from_teacher
        offline = soft_divergence(u_s, u_t, self.temperature)
        online = to_shadow + to_student + cross_entropy(q, label) + mse_loss(q, u_t)
        return loss + self.alpha * offline + self.beta * online


class C2kd(LabelObjective):
    r"""Customised cross-modal distillation: both sides learn their classes, and from each other where they agree.

    Each side has a head and a proxy, both linear maps of its embedding, with logits :math:`u` and :math:`q`; the
    proxies of the authors (Huo et al., C2KD: bridging the modality gap for cross-modal knowledge distillation, CVPR
    2024) read feature maps of a convolutional network instead. Let
    :math:`D(a \leftarrow b) = T^2 \operatorname{KL}(\sigma(\operatorname{sg} b / T) \,\|\, \sigma(a / T))`, where
    :math:`b` has no gradient, :math:`D_{\setminus y}` the same over the classes that are not the label, and :math:`K`
    the rows on which Kendall's :math:`\tau_b` of :math:`q_S` and :math:`q_T` is above a threshold. The loss is

    .. math::

        \sum_{X \in \{S, T\}} [\operatorname{CE}(u_X, y) + D(q_X \leftarrow u_X) + D(u_X \leftarrow q_X)]
        + \frac{1}{|K|} \sum_{i \in K} [D_{\setminus y}(q_S \leftarrow q_T) + D_{\setminus y}(q_T \leftarrow q_S)]_i

    with means over all rows in the first part. Without any row in :math:`K` the second part is 0.

    Parameters
    ----------
    temperature
        :math:`T`; the authors' is 1.
    threshold
        What :math:`\tau_b` must exceed; the authors' is 0.
    nontarget
        Whether the label leaves the softmax (``"exclude"``), or stays in it with a logit of ``"zero"``, as in the
        authors' code.
    average
        Whether the sum over :math:`K` is divided by the rows that are ``"kept"`` or, as in the authors' code, by
        ``"all"`` rows of the mini-batch.
    n_pairs
        From how many pairs of classes :math:`\tau_b` is estimated, by :func:`estimate_kendall`; ``None`` takes all
        pairs, which are taken anyway where there are no more. The labels of a mini-batch choose the pairs, so that
        mini-batches differ in them; one that is all training rows has the same pairs in every epoch. The standard error
        is below :math:`1 / \sqrt{n}`, 0.011 by default: only rows as near the threshold may be decided otherwise.
    """

    heads_of: ClassVar[dict[str, str]] = LabelObjective.heads_of.copy()
    heads_of |= {"student_proxy": "student", "teacher_proxy": "teacher"}

    def __init__(
        self,
        *,
        temperature: float = 2.0,
        threshold: float = 0.3,
        nontarget: NonTarget = "exclude",
        average: Average = "kept",
        n_pairs: int | None = 8192,
    ) -> None:
        super().__init__()
        check_number("temperature", temperature, above=0)
        check_number("threshold", threshold, least=-1, most=1)  # as a rank correlation is
        check_choice("nontarget", nontarget, NonTarget)
        check_choice("average", average, Average)
        if n_pairs is not None:
            check_whole("n_pairs", n_pairs)
        self.temperature, self.threshold = temperature, threshold
        self.nontarget, self.average, self.n_pairs = nontarget, average, n_pairs

    def forward(self, student: Tensor, teacher: Tensor, label: Tensor) -> Tensor:
        """Return the loss of ``student`` rows (B, d) paired with ``teacher`` rows (B, D) of classes ``label`` (B,)."""
        student_loss, q_s = self._within("student", student, label)
        teacher_loss, q_t = self._within("teacher", teacher, label)
        kept = self._correlate(q_s, q_t, label) > self.threshold  # never where it is NaN, as it is for constant logits
        apart = mutual_non_target_divergence(q_s, q_t, label, self.temperature, nontarget=self.nontarget)
        # rows are weighted, not picked out, since the host would have to wait for their number
        across = torch.where(kept, apart, 0).sum()
        number = kept.sum().clamp(min=1) if self.average == "kept" else len(kept)
        return student_loss + teacher_loss + across / number

    def _within(self, side: str, embedding: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of head and proxy of one side, and the logits of the proxy."""
        head, proxy = (self.logits(f"{side}_{part}", embedding) for part in ("head", "proxy"))
        return cross_entropy(head, label) + mutual_divergence(head, proxy, self.temperature).mean(), proxy

    def _correlate(self, q_s: Tensor, q_t: Tensor, label: Tensor) -> Tensor:
        if self.n_pairs is None:
            return kendall(q_s, q_t)
        # The labels seed the pairs: they differ between mini-batches, unless one is all rows, and all processes of a
        # training know the same. A sum does not depend on the order of rows. A count of steps would stand still in a
        # CUDA graph.
        return estimate_kendall(q_s, q_t, n_pairs=self.n_pairs, seed=state(PAIRS, label).sum())
