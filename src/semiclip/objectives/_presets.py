"""Arguments that training starts from for each objective, by the names of the training plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from semiclip._arguments import check_choice
from semiclip.errors import BadValue
from semiclip.objectives._paper import PAPER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Rate = float | dict[str, float]  # of all parts, or by part
STUDENT = "student"

# Chosen on simulations, see the page on numbers: the paper's rates need many more steps than small data give. Heads
# without a rate of their own follow the student.
DEFAULT: dict[str, dict[str, Any]] = {
    "semiclip": {"lr": 0.1},
    "clip": {"lr": {"student": 0.1, "teacher": 1e-4}},
    "siglip": {"lr": 0.01},
    "vicreg": {"lr": 0.003},
    "dcca": {"lr": 0.1},
    "kd": {"lr": 0.001},
    "shake": {"lr": {"student": 0.001, "shadow": 0.1}},  # a fresh shadow has the teacher's head to catch up with
    "c2kd": {"lr": {"student": 0.003, "teacher": 3e-4}},
}
# Epochs of the cosine unless told: the 150 of the paper. A third of them is enough for Semi-Clipped at the rate above:
# simulations recall as much after TVN, and 0.1 more after centring (benchmarks/time_to_recall.py). The paper's released
# code has 50 as well. A rate of 0.3 for 25 is no worse with the adapter of the size chosen here, but the wide one loses
# by it on few keys (benchmarks/whole_schedules.py). Other objectives, and encoders that are trained, were not measured.
N_EPOCHS, N_EPOCHS_SEMICLIP = 150, 50
# by objective and by the preset of training; one that the paper does not have has no preset of that name
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    name: {"default": start, **({"paper": PAPER[name].plan} if name in PAPER else {})}
    for name, start in DEFAULT.items()
}
# Arguments of the training plan of pretraining, for objectives that learn from labels, whatever the preset.
PRETRAINING: dict[str, dict[str, Any]] = {
    name: settings.training["pretrain_kwargs"]
    for name, settings in PAPER.items()
    if "pretrain_kwargs" in settings.training
}


def count_default_epochs(objective: str, preset: str, *, trains_encoder: bool) -> int:
    """Return for how many epochs an objective is trained unless told."""
    measured = objective == "semiclip" and preset == "default" and not trains_encoder
    return N_EPOCHS_SEMICLIP if measured else N_EPOCHS


def merge_rates(start: Mapping[str, Any], changes: Mapping[str, Any], parts: Iterable[str]) -> dict[str, Any]:
    """Return plan arguments with ``changes`` over those to ``start`` from; of rates by part, only the parts named."""
    parts = list(parts)
    result = {**start, **changes}
    for name in ("lr", "min_lr"):
        if isinstance(result.get(name), dict):
            before = {part: rate for part, rate in split_rate(start.get(name, {})).items() if part in parts}
            after = split_rate(result[name]) if name in changes else {}
            for part in after:
                check_choice(f"part of {name}", part, parts)
            result[name] = {**before, **after}
    return result


def split_rate(rate: Rate) -> dict[str, float]:
    """Return a rate as one by part; parts that are not named follow the student's."""
    return rate if isinstance(rate, dict) else {STUDENT: rate}


def rate_of(part: str, rate: Rate) -> float:
    """Return a part's rate, which is the student's where it has none of its own."""
    rates = split_rate(rate)
    if part not in rates and STUDENT not in rates:
        raise BadValue("lr", rates, f"given for {part!r}, or for {STUDENT!r}, whose rate others follow")
    return float(rates.get(part, rates.get(STUDENT, 0.0)))
