"""What the comparison of methods tries: settings as in the paper, and grids of eight that give each the same budget."""

from __future__ import annotations

from itertools import product
from typing import Any

from semiclip.baselines import BASELINES
from semiclip.objectives import OBJECTIVES

METHODS = (*OBJECTIVES, *BASELINES)
EPOCHS = 60  # of the grids, and as many of pretraining before them where a method has labels
# epochs and rows of a mini-batch as in the paper, or in its released code where it says none
PAPER: dict[str, tuple[int, int]] = {
    "semiclip": (150, 1024), "clip": (150, 1024), "siglip": (10, 1024), "vicreg": (10, 1024), "dcca": (50, 2048),
    "kd": (10, 1024), "shake": (10, 1024), "c2kd": (30, 1024),
}  # fmt: skip

UNIMODAL = {"model_kwargs": {"student_correction": None}}  # as it comes from the encoder


def lr(**parts: float) -> dict[str, Any]:
    return {"plan_kwargs": {"lr": parts}}


def rates(*numbers: float) -> list[dict[str, Any]]:
    return [lr(student=number) for number in numbers]


def two(students: tuple[float, ...], shares: tuple[float, ...], *others: str) -> list[dict[str, Any]]:
    """Four rates of the student's adapter, and two of the other parts as shares of them."""
    return [lr(student=a, **dict.fromkeys(others, round(a * share, 9))) for a, share in product(students, shares)]


GRIDS: dict[str, list[dict[str, Any]]] = {
    "semiclip": rates(0.003, 0.01, 0.03, 0.1, 0.2, 0.4, 0.7, 1.0),
    "clip": two((0.03, 0.1, 0.3, 1.0), (0.1, 0.001), "teacher"),
    "siglip": rates(0.0003, 0.001, 0.003, 0.01, 0.02, 0.04, 0.1, 0.3),
    "vicreg": rates(0.0003, 0.001, 0.002, 0.003, 0.006, 0.01, 0.02, 0.03),
    "dcca": [
        {**lr(student=rate), "model_kwargs": {"n_components": n}}
        for rate, n in product((0.01, 0.03, 0.1, 0.3), (15, 30))
    ],
    "kd": two((0.0003, 0.001, 0.002, 0.004), (1.0, 0.1), "student_head"),
    "shake": two((0.0003, 0.001, 0.002, 0.004), (1.0, 0.1), "student_head", "shadow"),
    "c2kd": two((0.0003, 0.001, 0.003, 0.01), (1.0, 0.1), "teacher"),
    "unimodal": [UNIMODAL],
    "random": [{}],
    "ridge": [{}],  # which chooses its penalty itself
    "cca": [{"model_kwargs": {"n_components": n}} for n in (5, 10, 15, 20, 30, 40, 50, 64)],
    "procrustes": [{}],
    "knn": [{"model_kwargs": {"n_neighbors": n}} for n in (1, 3, 5, 10, 20, 30, 50, 100)],
}


def as_in_the_paper(method: str) -> dict[str, Any]:
    """Return the training arguments of the paper."""
    if method not in PAPER:
        return UNIMODAL if method == "unimodal" else {}
    epochs, batch_size = PAPER[method]
    return {"max_epochs": epochs, "batch_size": batch_size, "profile": "paper"}


def grid(method: str) -> list[dict[str, Any]]:
    """Return the settings among which the grid search picks."""
    return [{**setting, **({"max_epochs": EPOCHS} if method in OBJECTIVES else {})} for setting in GRIDS[method]]


def augmentations(method: str) -> tuple[bool, ...]:
    """Return with and without PEA, which a baseline in closed form does not know."""
    return (False, True) if method in OBJECTIVES else (False,)
