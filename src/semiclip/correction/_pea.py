"""What Perturbation Embedding Augmentation draws from."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import combinations
from typing import Any, Literal, Self

import numpy as np

from semiclip._arguments import check_choice, check_number, check_whole
from semiclip.correction._steps import METHODS
from semiclip.errors import BadValue, Conflict, WrongType

ControlLaw = Literal["uniform", "log_uniform", "all"]
Granularity = Literal["row", "batch"]


@dataclass(frozen=True, kw_only=True)
class PEA:
    """Perturbation Embedding Augmentation: a batch correction drawn at random for each sample.

    The source is Bendidi et al., ICML 2025, section 3 and Algorithm 1, DOI 10.48550/arXiv.2505.21317.
    A sample draws one of ``methods`` and keeps each of its steps with probability ``1 - drop_probability``. A sample
    that keeps none stays as it is. It also draws controls of its own batch without replacement. The steps that it keeps
    are fitted one after the other, each on these controls as the steps before left them.

    Parameters
    ----------
    methods
        Corrections to draw from, all equally likely: ``center`` (centre), ``center_scale`` (centre, scale) and ``tvn``
        (centre, scale, whiten).
    drop_probability
        Probability that a step is dropped; 0 keeps all steps.
    min_steps
        Fewest steps that a sample keeps: with fewer, the steps of its method are dropped anew.
    min_controls
        Smallest number of controls of a draw, at least 2. A batch with fewer is an error, or borrows the controls of
        all batches where the ``fallback`` is ``"pooled"``.
    control_law
        Law of the number of controls, from ``min_controls`` to all of the batch: ``uniform``, ``log_uniform`` (small
        numbers more often), or always ``all``.
    max_controls
        Most controls of a batch that serve, chosen at random once; ``None`` for all. The cost of a draw grows with it.
    granularity
        ``row`` draws for each sample. ``batch`` draws once for a whole mini-batch, as Algorithm 1 is printed.
    ridge
        Added to the eigenvalues before whitening: with 0.5 no direction grows by more than 1.41. Its unit is the
        control variance, which is 1 after scaling; where the scale step was dropped, it is the mean variance over
        dimensions of all controls of the batch.
    scale_floor
        Smallest scale to divide by, as a fraction of the standard deviation of all controls of the batch.
    clip
        Largest absolute value after scaling or whitening, in control standard deviations; ``None`` for no limit.
    bank_size
        Whitening transforms kept for each batch, for scaled and for unscaled controls. A sample that is whitened draws
        one of them; each is fitted on controls drawn as above. 0 picks from 2 to 8, as many as 1 GB holds. Means and
        scales are kept in the same way, but so many of them that samples of a mini-batch rarely share one.
    bank_refresh
        Epochs that a transform lasts: with 3, each epoch draws a third of them anew. The first epoch then draws two of
        each kind for each batch, or a third, and the others follow. ``None`` picks the fewest epochs for which this
        costs at most a few hundredths of the training time, and logs them if they are more than one; 0 keeps the first
        transforms. Batches with fewer controls than dimensions cost little: 350 of 14 in 256 dimensions are drawn anew
        in every epoch of 130,000 rows.

    Examples
    --------
    >>> PEA(methods=("center", "center_scale")).plans
    {('center',): 0.375, (): 0.375, ('center', 'scale'): 0.125, ('scale',): 0.125}
    """

    methods: Sequence[str] = tuple(METHODS)
    drop_probability: float = 0.5
    min_steps: int = 0
    min_controls: int = 2
    control_law: ControlLaw = "uniform"
    max_controls: int | None = 512
    granularity: Granularity = "row"
    ridge: float = 0.5
    scale_floor: float = 0.1
    clip: float | None = 20.0
    bank_size: int = 0
    bank_refresh: int | None = None

    def __post_init__(self) -> None:
        methods = (self.methods,) if isinstance(self.methods, str) else tuple(self.methods)
        object.__setattr__(self, "methods", methods)
        for name in ("max_controls", "clip"):  # files hold no None, and have infinity for no limit
            if getattr(self, name) == np.inf:
                object.__setattr__(self, name, None)
        if not methods:
            raise BadValue("methods", methods, f"one or more of {', '.join(METHODS)}")
        for method in methods:
            check_choice("methods", method, METHODS)
        check_choice("control_law", self.control_law, ControlLaw)
        check_choice("granularity", self.granularity, Granularity)
        check_number("drop_probability", self.drop_probability, least=0, most=1)
        check_number("ridge", self.ridge, least=0)
        check_number("scale_floor", self.scale_floor, least=0, most=1)
        if self.clip is not None:
            check_number("clip", self.clip, above=0)
        check_whole("min_steps", self.min_steps, 0)
        check_whole("min_controls", self.min_controls, 2)
        check_whole("bank_size", self.bank_size, 0)
        for name, least in (("max_controls", self.min_controls), ("bank_refresh", 0)):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), least)
        fewest = min(methods, key=lambda method: len(METHODS[method]))
        if self.min_steps > len(METHODS[fewest]) or (self.min_steps and self.drop_probability == 1):
            steps = f"method {fewest!r} of {len(METHODS[fewest])} step(s) and drop_probability={self.drop_probability}"
            raise Conflict(f"min_steps={self.min_steps}", steps, "lower min_steps")

    @property
    def plans(self) -> dict[tuple[str, ...], float]:
        """The sequences of steps that a draw can give, with their probabilities."""
        plans: dict[tuple[str, ...], float] = {}
        for method in self.methods:
            steps = METHODS[method]
            kept = {
                subset: (1 - self.drop_probability) ** len(subset) * self.drop_probability ** (len(steps) - len(subset))
                for size in range(len(steps), self.min_steps - 1, -1)
                for subset in combinations(steps, size)
            }
            total = sum(kept.values())
            for subset, probability in kept.items():
                if probability:
                    plans[subset] = plans.get(subset, 0.0) + probability / total / len(self.methods)
        return plans

    @property
    def table(self) -> tuple[np.ndarray, np.ndarray]:
        """Which of centre, scale and whiten each plan has, (n_plans, 3), and the plans' cumulative probabilities."""
        steps = np.array([[step in plan for step in METHODS["tvn"]] for plan in self.plans])
        cumulative = np.cumsum(list(self.plans.values()))
        return steps, cumulative / cumulative[-1]

    @property
    def params(self) -> dict[str, Any]:
        """All options by name, as ``of`` takes them and files can hold them."""
        return {**asdict(self), "methods": list(self.methods)}

    @classmethod
    def of(cls, options: "bool | Self | Mapping[str, Any] | None") -> Self | None:  # True is the default
        """Read what users pass as ``pea``: true or false, options by name, or a PEA."""
        if options is None or isinstance(options, cls):
            return options
        if isinstance(options, bool):
            return cls() if options else None
        if not isinstance(options, Mapping):
            raise WrongType("pea", type(options), "True, False, a dict of options or a semiclip.correction.PEA")
        for name in options:
            check_choice("option of pea", name, [field.name for field in fields(cls)])
        return cls(**options)


FIXED: dict[str, Any] = {"drop_probability": 0.0, "control_law": "all"}
LADDER: dict[str, dict[str, Any]] = {
    "base": {"student_correction": None, "pea": False},
    "+ fixed augmentation": {"student_correction": None, "pea": FIXED},
    "+ TVN at inference": {"student_correction": "tvn", "pea": FIXED},
    "+ step dropping": {"student_correction": "tvn", "pea": {"control_law": "all"}},
    "+ control sampling": {"student_correction": "tvn", "pea": {}},
}
"""The rungs of the paper's Table 2: correction at inference, and what PEA draws in training; the last is PEA."""
