from __future__ import annotations

import inspect
import json
from dataclasses import FrozenInstanceError
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semiclip import errors
from semiclip.correction import LADDER, PEA

STEPS = {"center": ("center",), "center_scale": ("center", "scale"), "tvn": ("center", "scale", "whiten")}
METHODS = st.lists(st.sampled_from(list(STEPS)), min_size=1, max_size=3, unique=True)


def enumerated(methods, drop, min_steps=0):
    """Every way of drawing a method and tossing a coin for each of its steps, in exact arithmetic."""
    plans = {}
    for method in methods:
        outcomes = {}
        for coins in product([True, False], repeat=len(STEPS[method])):
            kept = tuple(step for step, coin in zip(STEPS[method], coins, strict=True) if coin)
            chance = Fraction(1)
            for coin in coins:
                chance *= 1 - drop if coin else drop
            if len(kept) >= min_steps:
                outcomes[kept] = chance
        for kept, chance in outcomes.items():
            share = chance / sum(outcomes.values()) / len(methods)
            if share:
                plans[kept] = plans.get(kept, 0) + share
    return plans


def test_the_default_plans_have_the_probabilities_of_algorithm_1():
    """A third for each method and a half for each of its steps, in twenty-fourths."""
    one, two, three = ("center",), ("center", "scale"), ("center", "scale", "whiten")
    expected = {(): 7, one: 7, ("scale",): 3, two: 3, ("whiten",): 1, ("center", "whiten"): 1, ("scale", "whiten"): 1}
    assert PEA().plans == pytest.approx({plan: count / 24 for plan, count in {**expected, three: 1}.items()})


@given(METHODS, st.fractions(0, 1, max_denominator=20), st.integers(0, 3))
def test_plans_are_all_that_can_be_drawn(methods, drop, min_steps):
    if min_steps > min(len(STEPS[method]) for method in methods) or (min_steps and drop == 1):
        with pytest.raises(errors.Conflict):
            PEA(methods=methods, drop_probability=float(drop), min_steps=min_steps)
        return
    plans = PEA(methods=methods, drop_probability=float(drop), min_steps=min_steps).plans
    expected = enumerated(methods, drop, min_steps)
    assert plans.keys() == expected.keys()
    for plan, chance in expected.items():
        assert plans[plan] == pytest.approx(float(chance), rel=1e-9)
    assert sum(plans.values()) == pytest.approx(1)
    assert all(len(plan) >= min_steps for plan in plans)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"methods": ["tvn", "center"], "drop_probability": 0.25, "min_steps": 1, "control_law": "log_uniform"},
        {"max_controls": None, "clip": None, "granularity": "batch", "scale_floor": 0.0, "bank_refresh": 0},
    ],
)
def test_options_survive_a_file(options):
    """As JSON, and where no limit is infinity."""
    pea = PEA(**options)
    through = json.loads(json.dumps(pea.params))
    assert PEA.of(through) == pea
    assert PEA.of(through).params == through
    limits = {name: np.inf for name, value in through.items() if value is None and name != "bank_refresh"}
    assert PEA.of(through | limits) == pea


def test_the_options_are_those_that_are_documented():
    methods = ["center", "center_scale", "tvn"]
    assert list(PEA().params.values()) == [methods, 0.5, 0, 2, "uniform", 512, "row", 0.5, 0.1, 20.0, 0, None]
    for name in PEA().params:
        assert f"\n{name}\n    " in inspect.getdoc(PEA)


def test_what_users_pass_is_read_and_does_not_change():
    pea = PEA(ridge=1.0)
    assert PEA.of(pea) is pea
    assert PEA.of(None) is PEA.of(False) is None
    assert PEA.of(True) == PEA.of({}) == PEA()
    assert PEA.of({"ridge": 1.0}) == pea
    assert PEA(methods="tvn") == PEA(methods=["tvn"]) == PEA(methods=("tvn",))
    with pytest.raises(FrozenInstanceError):
        pea.ridge = 1.0
    with pytest.raises(TypeError):
        PEA(("tvn",))


NAN = float("nan")
WRONG = {"drop_probability": (-0.1, 1.5, NAN), "min_steps": (-1, 0.5), "min_controls": (1,), "max_controls": (1,)}
WRONG |= {
    "ridge": (-0.5, NAN),
    "scale_floor": (-0.1, 1.1),
    "clip": (0, -20.0),
    "bank_size": (-1,),
    "bank_refresh": (-1,),
}


@pytest.mark.parametrize(
    ("options", "error", "data"),
    [
        ({"methods": ()}, errors.BadValue, {"name": "methods"}),
        ({"methods": "combat"}, errors.UnknownChoice, {"name": "methods", "value": "combat"}),
        ({"methods": ["tvn", "pca"]}, errors.UnknownChoice, {"name": "methods", "value": "pca"}),
        ({"control_law": "normal"}, errors.UnknownChoice, {"name": "control_law"}),
        ({"granularity": "cell"}, errors.UnknownChoice, {"name": "granularity"}),
        *(({name: value}, errors.BadValue, {"name": name}) for name, values in WRONG.items() for value in values),
        ({"max_controls": 4, "min_controls": 5}, errors.BadValue, {"name": "max_controls"}),
        ({"min_steps": 1, "drop_probability": 1.0}, errors.Conflict, {"first": "min_steps=1"}),
        ({"dropout": 0.5, "ridge": 1.0}, errors.UnknownChoice, {"value": "dropout"}),
        (3, errors.WrongType, {"name": "pea", "got": int}),
    ],
)
def test_refuses(refuses, options, error, data):
    with refuses(error, **data):
        PEA.of(options)


def test_the_ladder_is_that_of_table_2():
    """Each rung adds one thing to the one before; only the corrections of inference are named outside PEA."""
    assert [rung["student_correction"] for rung in LADDER.values()] == [None, None, "tvn", "tvn", "tvn"]
    base, fixed, tvn, dropping, full = (PEA.of(rung["pea"]) for rung in LADDER.values())
    assert base is None
    assert fixed == tvn
    assert fixed.plans == dict.fromkeys(STEPS.values(), pytest.approx(1 / 3))
    assert fixed.params | {"drop_probability": 0.5} == dropping.params
    assert dropping.params | {"control_law": "uniform"} == full.params == PEA().params
