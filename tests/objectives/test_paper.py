"""The paper's settings spelled out again: section 4, Appendix A.2, and the released code where these are silent."""

import re
from inspect import signature
from pathlib import Path

import pytest

from semiclip.objectives import OBJECTIVES, PAPER, PRESETS, PRETRAINING

EPOCHS_AND_ROWS = {
    "semiclip": (150, 1024), "clip": (150, 1024), "siglip": (10, 1024), "vicreg": (10, 1024), "dcca": (50, 2048),
    "kd": (10, 1024), "shake": (10, 1024), "c2kd": (30, 1024),
}  # fmt: skip
LR = {
    "semiclip": 1e-3,
    "clip": {"student": 1e-3, "teacher": 1e-3},
    "siglip": {"student": 0.1, "teacher": 1e-8},
    "vicreg": {"student": 0.1, "teacher": 1e-8},
    "dcca": {"student": 1e-6, "teacher": 1e-8},
    "kd": {"student": 0.1, "student_head": 1e-4},
    "shake": {"student": 0.1, "teacher": 1e-8, "student_head": 1e-4, "shadow": 1e-7},
    "c2kd": {"student": 0.1, "teacher": 1e-6, "student_head": 1e-5, "teacher_head": 1e-3, "student_proxy": 1e-5,
             "teacher_proxy": 1e-3},
}  # fmt: skip
MIN_LR = {"semiclip": 1e-6, "clip": 1e-6, "siglip": 1e-10, "vicreg": 1e-10, "dcca": 1e-10, "kd": 1e-10, "shake": 1e-10,
          "c2kd": 1e-7}  # fmt: skip
OPTIONS = {
    "semiclip": {"temperature": 0.1, "symmetric": False, "duplicates": "negative"},
    "clip": {"temperature": 0.1, "symmetric": True, "duplicates": "negative"},
    "siglip": {"scale": 10.0, "bias": -10.0},
    "vicreg": {"invariance": 25.0, "variance": 25.0, "covariance": 1.0},
    "dcca": {"n_components": 30, "k": None, "epsilon": 1e-6},
    "kd": {"temperature": 9.0, "alpha": 10.0},
    "shake": {"variant": "paper", "temperature": 9.0, "alpha": 10.0, "beta": 1e-3, "shadow_start": "fresh"},
    "c2kd": {"temperature": 2.0, "threshold": 0.3, "nontarget": "exclude", "average": "kept", "n_pairs": None},
}
LABELS = ("kd", "shake", "c2kd")
every = pytest.mark.parametrize("name", OBJECTIVES)


@every
def test_the_settings_of_the_paper(name):
    model, training, plan = PAPER[name]
    adapter = (1024, 1024) if name != "semiclip" else False
    assert model == {"n_hidden": (512, 1024), "teacher_adapter": adapter, **OPTIONS[name]}
    epochs, batch_size = EPOCHS_AND_ROWS[name]
    pretraining = {"pretrain_kwargs": {"lr": 0.1}} if name in LABELS else {}
    assert training == {"max_epochs": epochs, "batch_size": batch_size, **pretraining}
    optimiser = {"optimizer": "sgd", "momentum": 0.95, "weight_decay": 1e-4, "schedule": "cosine"}
    assert plan == {**optimiser, "lr": LR[name], "min_lr": MIN_LR[name]}


@every
def test_the_preset_of_training_is_its_plan_and_every_option_is_one_of_the_objective(name):
    assert PRESETS[name]["paper"] is PAPER[name].plan
    assert PRESETS[name]["default"]["lr"] != LR[name]
    options = {option: value for option, value in PAPER[name].model.items() if option in OPTIONS[name]}
    OBJECTIVES[name](**options)
    left = {*signature(OBJECTIVES[name]).parameters} - {*options}
    assert left == ({"gamma"} if name == "shake" else set())  # a weight of 1 that the paper does not write


def test_pretraining_is_the_same_with_every_preset():
    assert {name: settings.training["pretrain_kwargs"] for name, settings in PAPER.items() if name in LABELS} == (
        PRETRAINING
    )


@every
def test_the_page_says_the_same(name):
    """A row of the page has epochs, rows, the rates of both adapters and heads, and the least rate."""
    page = (Path(__file__).parents[2] / "docs" / "paper_presets.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| `{name}` \| (\d+ \| .*) \|$", page, re.MULTILINE)
    epochs, n_rows, *rates = [re.findall(r"[\d.]+(?:e-\d+)?", cell) for cell in row.split(" | ")]
    assert ([int(number) for number in (*epochs, *n_rows)]) == [*EPOCHS_AND_ROWS[name]]
    lr = LR[name] if isinstance(LR[name], dict) else {"student": LR[name]}
    image_head = "shadow" if name == "shake" else "teacher_head"
    expected = [[lr[part]] if part in lr else [] for part in ("student", "teacher", "student_head", image_head)]
    assert [[float(rate) for rate in cell] for cell in rates] == [*expected, [MIN_LR[name]]]
