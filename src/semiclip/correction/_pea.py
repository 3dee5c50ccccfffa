"""What Perturbation Embedding Augmentation draws from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from semiclip._checks import some

if TYPE_CHECKING:
    from collections.abc import Sequence

METHODS: dict[str, tuple[str, ...]] = {
    "center": ("center",),
    "center_scale": ("center", "scale"),
    "tvn": ("center", "scale", "whiten"),
}
ControlLaw = Literal["uniform", "log_uniform", "all"]
Granularity = Literal["row", "batch"]


@dataclass(frozen=True, kw_only=True)
class PEA:
    """Perturbation Embedding Augmentation: a batch correction drawn at random for each sample (paper Algorithm 1).

    A sample draws one of ``methods``, keeps each of its steps with probability ``1 - drop_probability`` (keeping none
    leaves the sample as it is), and draws ``m`` controls of its own batch without replacement. The steps that are
    kept are fitted one after the other, each on these controls as the steps before left them.

    Parameters
    ----------
    methods
        Corrections to draw from, each as likely: ``center`` (centre), ``center_scale`` (centre, scale) and ``tvn``
        (centre, scale, whiten).
    drop_probability
        Of each step. 0 keeps them all.
    min_steps
        A method whose draw keeps fewer steps drops them anew; 0 allows a sample to stay as it is.
    min_controls
        Smallest number of controls of a draw, at least 2; a batch with fewer is an error, or borrows the controls of
        all batches where the ``fallback`` is ``"pooled"``.
    control_law
        Of the number of controls, from ``min_controls`` to all of the batch: ``uniform``, ``log_uniform`` for more
        small ones, or always ``all``.
    max_controls
        Of a batch with more controls, only so many, chosen at random once, serve; ``None`` for all. The cost of a
        draw grows with it.
    granularity
        Draw for each ``row``, or method, steps and number of controls once for a whole mini-``batch``, as Algorithm 1
        is printed.
    ridge
        Keeps whitening from blowing up directions in which the drawn controls hardly vary: 0.5 lets none grow by more
        than 1.41. In units of the control variance, which is 1 after scaling; where the scale step was dropped, of the
        mean variance over dimensions of all controls of the batch.
    scale_floor
        Smallest scale to divide by, as a fraction of the standard deviation of all controls of the batch, since that
        of two controls can be tiny.
    clip
        Largest absolute value after scaling or whitening, in control standard deviations; ``None`` for no limit.
    bank_size
        Whitening transforms kept for each batch, for scaled and for unscaled controls, from which rows draw; each is
        fitted on controls drawn as above. 0 picks from 2 to 8, as many as 1 GB holds.
    bank_refresh
        Epochs after which the transforms are drawn anew; ``None`` picks the fewest that cost about a tenth of the time
        of training at most, and 0 keeps the first.

    References
    ----------
    Bendidi et al., ICML 2025, section 3 and Algorithm 1, DOI 10.48550/arXiv.2505.21317.

    Examples
    --------
    >>> plans = PEA(methods=("center", "center_scale")).plans
    >>> [("+".join(steps) or "none", probability) for steps, probability in plans.items()]
    [('center', 0.375), ('none', 0.375), ('center+scale', 0.125), ('scale', 0.125)]
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
        if not self.methods or (unknown := [name for name in self.methods if name not in METHODS]):
            msg = f"methods={tuple(self.methods)} must name some of {', '.join(METHODS)}"
            msg += f"; unknown: {some(unknown)}" if self.methods else ""
            raise ValueError(msg)
        for name, known in (("control_law", ControlLaw), ("granularity", Granularity)):
            if (value := getattr(self, name)) not in get_args(known):
                msg = f"{name}={value!r} is not one of {', '.join(get_args(known))}"
                raise ValueError(msg)
        within = {
            "drop_probability": (0 <= self.drop_probability <= 1, "from 0 to 1"),
            "min_steps": (0 <= self.min_steps <= 3, "from 0 to 3"),
            "min_controls": (self.min_controls >= 2, "at least 2"),
            "max_controls": (self.max_controls is None or self.max_controls >= self.min_controls, "≥ min_controls"),
            "ridge": (self.ridge >= 0, "at least 0"),
            "scale_floor": (0 <= self.scale_floor <= 1, "from 0 to 1"),
            "clip": (self.clip is None or self.clip > 0, "positive, or None"),
            "bank_size": (self.bank_size >= 0, "at least 0"),
            "bank_refresh": (self.bank_refresh is None or self.bank_refresh >= 0, "at least 0, or None"),
        }
        for name, (right, wanted) in within.items():
            if not right:
                msg = f"{name}={getattr(self, name)} must be {wanted}"
                raise ValueError(msg)
        fewest = min(self.methods, key=lambda name: len(METHODS[name]))
        if self.min_steps > len(METHODS[fewest]) or (self.min_steps and self.drop_probability == 1):
            msg = (
                f"min_steps={self.min_steps} with drop_probability={self.drop_probability} and method {fewest!r} of "
                f"{len(METHODS[fewest])} step(s) leaves nothing to draw; lower min_steps"
            )
            raise ValueError(msg)

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
    def of(cls, options: bool | PEA | Mapping[str, Any] | None) -> PEA | None:  # noqa: FBT001  # True means the default
        """Read what users pass as ``pea``: true or false, options by name, or a PEA."""
        if options is None or options is False:
            return None
        if options is True:
            return cls()
        if isinstance(options, PEA):
            return options
        known = [field.name for field in fields(cls)]
        if not isinstance(options, Mapping):
            msg = f"pea={options!r} is neither True, False, a dict of options nor a semiclip.correction.PEA"
            raise TypeError(msg)
        if unknown := [name for name in options if name not in known]:
            msg = f"pea has no option {some(unknown)}; there are {', '.join(known)}"
            raise ValueError(msg)
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
