"""Arguments that training starts from for each objective, by the names of the training plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from semiclip._arguments import check_choice
from semiclip.errors import BadValue

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Rate = float | dict[str, float]  # of all parts, or by part
STUDENT = "student"

# "default": chosen on simulations, see the page on numbers; the paper's rates need many more steps than small data
# give. "paper": Bendidi et al. 2025, Appendix A.2, or the README of the released code where A.2 is silent or garbled,
# as it is of c2kd. The README leaves out the teacher's adapter of dcca. No rate of clip is published: it has
# Semi-Clipped's on both sides. Heads without a rate of their own follow the student.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "semiclip": {"default": {"lr": 0.1}, "paper": {"lr": 1e-3}},
    "clip": {"default": {"lr": {"student": 0.1, "teacher": 1e-4}}, "paper": {"lr": {"student": 1e-3, "teacher": 1e-3}}},
    "siglip": {"default": {"lr": 0.01}, "paper": {"lr": 0.1, "min_lr": 1e-10}},
    "vicreg": {"default": {"lr": 0.003}, "paper": {"lr": 0.1, "min_lr": 1e-10}},
    "dcca": {"default": {"lr": 0.1}, "paper": {"lr": 1e-6, "min_lr": 1e-10}},
    "kd": {"default": {"lr": 0.001}, "paper": {"lr": {"student": 0.1, "student_head": 1e-4}, "min_lr": 1e-10}},
    "shake": {
        "default": {"lr": {"student": 0.001, "shadow": 0.1}},  # a fresh shadow has the teacher's head to catch up with
        "paper": {"lr": {"student": 0.1, "student_head": 1e-4, "shadow": 1e-7}, "min_lr": 1e-10},
    },
    "c2kd": {
        "default": {"lr": {"student": 0.003, "teacher": 3e-4}},
        "paper": {
            "lr": {"student": 0.1, "teacher": 1e-6}
            | {"student_head": 1e-5, "teacher_head": 1e-3, "student_proxy": 1e-5, "teacher_proxy": 1e-3},
            "min_lr": 1e-7,
        },
    },
}

# Arguments of the training plan of pretraining, for objectives that learn from labels. No rate is published.
PRETRAINING: dict[str, dict[str, Any]] = {"kd": {"lr": 0.1}, "shake": {"lr": 0.1}, "c2kd": {"lr": 0.1}}


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
