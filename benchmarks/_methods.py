"""What the comparison of methods tries: settings as in the paper, and grids of eight that give each the same budget."""

from __future__ import annotations

from itertools import product
from typing import Any

from semiclip.baselines import BASELINES
from semiclip.objectives import OBJECTIVES, PAPER

RAW = "raw"  # the student as it comes from the encoder, which is the paper's unimodal baseline
METHODS = (*OBJECTIVES, RAW, *BASELINES)
# how the student is corrected in training: not at all, which is the paper's base that PEA is added to, by TVN, which is
# the package's, or by PEA
ARMS = ("raw", "tvn", "pea")
EPOCHS = 60  # of the grids, and as many of pretraining before them where a method has labels
# all rows train, since what is judged is another study; bfloat16 where the CPU has it
SHARED: dict[str, Any] = {"train_size": 1.0, "matmul_precision": "medium"}


def tried(rates: tuple[float, ...], options: dict[str, tuple[Any, ...]], **shares: float) -> list[dict[str, Any]]:
    """Return every rate of the student, with other parts at shares of it, and every option of the method."""
    return [
        {
            "plan_kwargs": {"lr": {"student": rate, **{part: rate * share for part, share in shares.items()}}},
            "model_kwargs": dict(zip(options, values, strict=True)),
            "max_epochs": EPOCHS,
        }
        for rate, values in product(rates, product(*options.values()))
    ]


def options(**values: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Return every combination of the options of a baseline."""
    return [{"model_kwargs": dict(zip(values, each, strict=True))} for each in product(*values.values())]


def soft(*shares: str, **more: Any) -> list[dict[str, Any]]:
    """Return temperature and weight of the paper and mild ones, whose loss bears higher rates."""
    parts, fixed = dict.fromkeys(shares, 1.0), {name: (value,) for name, value in more.items()}
    hot = tried((0.0003, 0.0007, 0.001, 0.002), {"temperature": (9.0,), "alpha": (10.0,), **fixed}, **parts)
    return hot + tried((0.01, 0.03, 0.1, 0.3), {"temperature": (2.0,), "alpha": (1.0,), **fixed}, **parts)


def at_rate(settings: list[dict[str, Any]], **rates: float) -> list[dict[str, Any]]:
    """Return settings with fixed rates of some parts."""
    return [{**each, "plan_kwargs": {"lr": {**each["plan_kwargs"]["lr"], **rates}}} for each in settings]


# for all that leave dimensions out: about the 30 pathways of most simulations, whose number nobody knows of real data,
# and at most the 40 components of the student's smallest embedding
N_COMPONENTS = (10, 20, 30, 40)
GRIDS: dict[str, list[dict[str, Any]]] = {
    "semiclip": tried((0.03, 0.1, 0.3, 1.0), {"temperature": (0.1, 0.3)}),
    "clip": [
        *tried((0.1, 0.3, 1.0, 2.0), {"temperature": (0.1,)}, teacher=0.001),
        *tried((0.1, 0.3, 1.0, 2.0), {"temperature": (0.3,)}, teacher=0.001),
    ],
    "siglip": tried((0.003, 0.01, 0.03, 0.1), {"scale": (3.0, 10.0)}),
    "vicreg": tried((0.001, 0.002, 0.005, 0.01), {"covariance": (1.0, 10.0)}),
    "dcca": tried((0.01, 0.1), {"n_components": N_COMPONENTS}),
    "kd": soft("student_head"),
    # runs of before started with the teacher's head; a fresh one has to learn it faster than the student learns
    "shake": at_rate(soft("student_head", shadow_start="fresh"), shadow=0.1),
    "c2kd": tried((0.0003, 0.001, 0.003, 0.01), {"threshold": (0.0, 0.3)}, teacher=0.1),
    RAW: [{}],
    "unimodal": [{}],
    "random": [{}],
    "ridge": [{}],  # which chooses its penalty itself
    "cca": options(n_components=N_COMPONENTS, regularization=(1e-3, 1e-1)),
    "procrustes": [{}],
    "knn": options(n_neighbors=(3, 10, 30, 100), weights=("uniform", "distance")),
}


def as_in_the_paper(method: str, arm: str) -> dict[str, Any]:
    """Return the arguments of the paper, with epochs and rows of a mini-batch for results to show."""
    if method not in PAPER:
        return corrected({**SHARED}, arm)
    return corrected({**SHARED, "recipe": "paper", **PAPER[method].training}, arm)


def grid(method: str, arm: str) -> list[dict[str, Any]]:
    """Return the settings among which the search picks."""
    return [corrected({**SHARED, **setting}, arm) for setting in GRIDS[method]]


def corrected(setting: dict[str, Any], arm: str) -> dict[str, Any]:
    """Return a setting with the correction of the student in it, where it is not the model's own."""
    if arm != "raw":
        return setting
    return {**setting, "model_kwargs": {**setting.get("model_kwargs", {}), "student_correction": None}}


def arms(method: str) -> tuple[str, ...]:
    """Return the corrections to try; a baseline in closed form knows no PEA."""
    return ARMS if method in OBJECTIVES else ("raw",) if method == RAW else ("tvn",)
