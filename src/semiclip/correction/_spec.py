from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from semiclip._arguments import check_choice, check_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from semiclip.correction._correct import Correction

Method = Literal["center", "center_scale", "tvn"]
Profile = Literal["clean", "batch", "public"]
Fallback = Literal["raise", "pooled"]
BATCH_RIDGE = 0.5  # a batch has about as many controls as dimensions; no direction then grows by more than 1.41


class Recipe(NamedTuple):
    """What is fitted on the controls of each batch, then on all controls pooled, then on each batch again."""

    before: tuple[str, ...] = ()
    """Steps fitted on the controls of each batch."""
    pooled: tuple[str, ...] = ()
    """Steps fitted on all controls, as the steps before left them."""
    after: tuple[str, ...] = ()
    """Steps fitted on the controls of each batch once more."""


RECIPES: dict[tuple[str, str], Recipe] = {
    ("center", "clean"): Recipe(before=("center",)),
    ("center", "public"): Recipe(before=("center",)),
    ("center_scale", "clean"): Recipe(before=("center", "scale")),
    ("center_scale", "public"): Recipe(before=("center", "scale")),
    ("tvn", "clean"): Recipe(before=("center",), pooled=("scale", "whiten"), after=("coral",)),
    ("center", "batch"): Recipe(before=("center",)),
    ("center_scale", "batch"): Recipe(before=("center", "scale")),
    ("tvn", "batch"): Recipe(before=("center", "scale", "whiten")),
    ("tvn", "public"): Recipe(pooled=("center", "scale", "whiten_pca"), after=("coral",)),
}


@dataclass(frozen=True)
class CorrectionSpec:
    """How an embedding is corrected, by the arguments that :func:`correct` explains.

    Raises
    ------
    BadValue, UnknownChoice
        If a value means nothing.

    Examples
    --------
    >>> CorrectionSpec(profile="batch").whitening_ridge
    0.5
    """

    method: Method | None = "tvn"
    profile: Profile = "clean"
    ridge: float | None = None
    coral_reg: float | None = 0.5
    fallback: Fallback = "raise"

    def __post_init__(self) -> None:
        check_choice("method", self.method, (*get_args(Method), None))
        check_choice("profile", self.profile, Profile)
        check_choice("fallback", self.fallback, Fallback)
        if self.ridge is not None:
            check_number("ridge", self.ridge, least=0)
        if self.coral_reg is not None:
            check_number("coral_reg", self.coral_reg, above=0)

    @property
    def recipe(self) -> Recipe:
        """The steps: none without a method, and no CORAL without ``coral_reg``."""
        if self.method is None:
            return Recipe()
        recipe = RECIPES[self.method, self.profile]
        return recipe if self.coral_reg is not None else recipe._replace(after=())

    @property
    def whitening_ridge(self) -> float:
        """The ridge that whitening takes."""
        if self.ridge is None:
            return BATCH_RIDGE if self.profile == "batch" else 0.0
        return self.ridge

    @property
    def params(self) -> dict[str, Any]:
        """All of it by name, as files can hold it."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def fit(
        self, x: Any, batch: np.ndarray, control: np.ndarray, batch_names: Sequence[object] | None = None
    ) -> Correction:
        """Fit the correction on the control rows of ``x``, shape (n, d), to apply it to any rows of these batches."""
        from semiclip.correction._correct import fit_spec

        return fit_spec(self, x, batch, control, batch_names)
