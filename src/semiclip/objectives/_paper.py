"""All settings of the paper for each objective: Bendidi et al., ICML 2025, DOI 10.48550/arXiv.2505.21317."""

from __future__ import annotations

from typing import Any, NamedTuple


class PaperSettings(NamedTuple):
    """What the paper says of an objective, by the names that the arguments have here.

    Examples
    --------
    >>> from semiclip.objectives import PAPER
    >>> settings = PAPER["kd"]
    >>> settings.training["max_epochs"], settings.plan["lr"]
    (10, {'student': 0.1, 'student_head': 0.0001})
    """

    model: dict[str, Any]
    """Arguments of :class:`semiclip.model.SemiClip`, those of the objective among them."""
    training: dict[str, Any]
    """Arguments of its ``train``."""
    plan: dict[str, Any]
    """Arguments of the training plan, which ``train(preset="paper")`` takes alone."""


STUDENT_HIDDEN, TEACHER_HIDDEN = (512, 1024), (1024, 1024)  # widths of the hidden layers of both adapters, A.2
ALONE: dict[str, Any] = {"n_hidden": STUDENT_HIDDEN, "teacher_adapter": False}
BOTH: dict[str, Any] = {"n_hidden": STUDENT_HIDDEN, "teacher_adapter": TEACHER_HIDDEN}
# the paper names no optimiser; this is the one of its released code
OPTIMISER: dict[str, Any] = {"optimizer": "sgd", "momentum": 0.95, "weight_decay": 1e-4, "schedule": "cosine"}
# both sides are pretrained on their labels (section 4); no rate is published, nor for how long, which is as many epochs
PRETRAINED: dict[str, Any] = {"pretrain_kwargs": {"lr": 0.1}}

# Sources: Appendix A.2, and section 4 for Semi-Clipped, where no comment names another. The code is the released one,
# its README or its scripts. Batch sizes other than Semi-Clipped's are the code's. Options of objectives are spelled out
# although they are defaults, so that the paper's do not change with these. Parts without a rate follow the student, and
# those that a model does not train have no use for theirs.
PAPER: dict[str, PaperSettings] = {
    "semiclip": PaperSettings(
        {**ALONE, "temperature": 0.1, "symmetric": False, "duplicates": "negative"},
        {"max_epochs": 150, "batch_size": 1024},
        {**OPTIMISER, "lr": 1e-3, "min_lr": 1e-6},  # the least is the code's
    ),
    # the paper says nothing of it: all is Semi-Clipped's, and the rate of the teacher is the default of the code's
    # command line (its scripts have others)
    "clip": PaperSettings(
        {**BOTH, "temperature": 0.1, "symmetric": True, "duplicates": "negative"},
        {"max_epochs": 150, "batch_size": 1024},
        {**OPTIMISER, "lr": {"student": 1e-3, "teacher": 1e-3}, "min_lr": 1e-6},
    ),
    "siglip": PaperSettings(
        {**BOTH, "scale": 10.0, "bias": -10.0},  # "defaults", which are those of Zhai et al. 2023
        {"max_epochs": 10, "batch_size": 1024},
        {**OPTIMISER, "lr": {"student": 0.1, "teacher": 1e-8}, "min_lr": 1e-10},
    ),
    "vicreg": PaperSettings(
        {**BOTH, "invariance": 25.0, "variance": 25.0, "covariance": 1.0},  # "defaults", those of Bardes et al. 2022
        {"max_epochs": 10, "batch_size": 1024},
        {**OPTIMISER, "lr": {"student": 0.1, "teacher": 1e-8}, "min_lr": 1e-10},
    ),
    "dcca": PaperSettings(
        {**BOTH, "n_components": 30, "k": None, "epsilon": 1e-6},  # the README leaves out the teacher's adapter
        {"max_epochs": 50, "batch_size": 2048},
        {**OPTIMISER, "lr": {"student": 1e-6, "teacher": 1e-8}, "min_lr": 1e-10},
    ),
    "kd": PaperSettings(
        {**BOTH, "temperature": 9.0, "alpha": 10.0},
        {"max_epochs": 10, "batch_size": 1024, **PRETRAINED},
        {**OPTIMISER, "lr": {"student": 0.1, "student_head": 1e-4}, "min_lr": 1e-10},
    ),
    # the paper's head of the images is the shadow; it has a rate for the teacher's adapter, which its code freezes
    "shake": PaperSettings(
        {**BOTH, "variant": "paper", "temperature": 9.0, "alpha": 10.0, "beta": 1e-3, "shadow_start": "fresh"},
        {"max_epochs": 10, "batch_size": 1024, **PRETRAINED},
        {
            **OPTIMISER,
            "lr": {"student": 0.1, "teacher": 1e-8, "student_head": 1e-4, "shadow": 1e-7},
            "min_lr": 1e-10,
        },
    ),
    # A.2 is garbled from the rates of the heads on: these, the epochs and the least are the README's; in the code a
    # proxy has the rate of the head of its side
    "c2kd": PaperSettings(
        {**BOTH, "temperature": 2.0, "threshold": 0.3, "nontarget": "exclude", "average": "kept", "n_pairs": None},
        {"max_epochs": 30, "batch_size": 1024, **PRETRAINED},
        {
            **OPTIMISER,
            "lr": {"student": 0.1, "teacher": 1e-6}
            | {"student_head": 1e-5, "teacher_head": 1e-3, "student_proxy": 1e-5, "teacher_proxy": 1e-3},
            "min_lr": 1e-7,
        },
    ),
}
