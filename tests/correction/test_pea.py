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
    """A third for each method and a half for each of its steps."""
    expected = {
        (): Fraction(7, 24),
        ("center",): Fraction(7, 24),
        ("scale",): Fraction(1, 8),
        ("center", "scale"): Fraction(1, 8),
        ("whiten",): Fraction(1, 24),
        ("center", "whiten"): Fraction(1, 24),
        ("scale", "whiten"): Fraction(1, 24),
        ("center", "scale", "whiten"): Fraction(1, 24),
    }
    plans = PEA().plans
    assert plans.keys() == expected.keys()
    assert {plan: plans[plan] for plan in plans} == pytest.approx({plan: float(p) for plan, p in expected.items()})
    assert sum(expected.values()) == 1


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


@pytest.mark.parametrize("drop", [0.0, 0.25, 0.5, 1.0])
def test_the_table_has_the_plans_row_by_row(drop):
    pea = PEA(drop_probability=drop)
    steps, cumulative = pea.table
    assert steps.dtype == bool
    assert steps.shape == (len(pea.plans), 3)
    names = np.array(["center", "scale", "whiten"])
    assert [tuple(names[row]) for row in steps] == list(pea.plans)
    np.testing.assert_allclose(np.diff(cumulative, prepend=0), list(pea.plans.values()), rtol=1e-12)
    assert cumulative[-1] == 1  # a number below 1 always finds a plan


@pytest.mark.parametrize(
    "pea",
    [
        PEA(),
        PEA(methods=("tvn", "center"), drop_probability=0.25, min_steps=1, min_controls=3, control_law="log_uniform"),
        PEA(max_controls=None, clip=None, granularity="batch", ridge=0.1, scale_floor=0.0, bank_size=4),
        PEA(bank_refresh=0, control_law="all", max_controls=7),
    ],
)
def test_options_survive_a_file(pea):
    """As JSON, and where no limit is infinity."""
    through = json.loads(json.dumps(pea.params))
    assert (
        PEA.of({name: np.inf if value is None and name != "bank_refresh" else value for name, value in through.items()})
        == pea
    )
    again = PEA.of(through)
    assert again == pea
    assert again.params == through
    np.testing.assert_array_equal(again.table[0], pea.table[0])


def test_the_options_are_those_that_are_documented():
    assert PEA().params == {
        "methods": ["center", "center_scale", "tvn"],
        "drop_probability": 0.5,
        "min_steps": 0,
        "min_controls": 2,
        "control_law": "uniform",
        "max_controls": 512,
        "granularity": "row",
        "ridge": 0.5,
        "scale_floor": 0.1,
        "clip": 20.0,
        "bank_size": 0,
        "bank_refresh": None,
    }
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


@pytest.mark.parametrize(
    ("options", "error", "data"),
    [
        ({"methods": ()}, errors.BadValue, {"name": "methods"}),
        ({"methods": "combat"}, errors.UnknownChoice, {"name": "methods", "value": "combat"}),
        ({"methods": ["tvn", "pca"]}, errors.UnknownChoice, {"name": "methods", "value": "pca"}),
        ({"control_law": "normal"}, errors.UnknownChoice, {"name": "control_law"}),
        ({"granularity": "cell"}, errors.UnknownChoice, {"name": "granularity"}),
        *(
            ({name: value}, errors.BadValue, {"name": name})
            for name, values in {
                "drop_probability": (-0.1, 1.5, float("nan")),
                "min_steps": (-1, 0.5),
                "min_controls": (1,),
                "max_controls": (1,),
                "ridge": (-0.5, float("nan")),
                "scale_floor": (-0.1, 1.1),
                "clip": (0, -20.0),
                "bank_size": (-1,),
                "bank_refresh": (-1,),
            }.items()
            for value in values
        ),
        ({"max_controls": 4, "min_controls": 5}, errors.BadValue, {"name": "max_controls"}),
        *(
            (options, errors.Conflict, {"first": f"min_steps={options['min_steps']}"})
            for options in (
                {"min_steps": 2},
                {"min_steps": 4, "methods": "tvn"},
                {"min_steps": 3, "methods": ("tvn", "center_scale")},
                {"min_steps": 1, "drop_probability": 1.0},
            )
        ),
        ({"dropout": 0.5, "ridge": 1.0}, errors.UnknownChoice, {"value": "dropout"}),
        (3, errors.WrongType, {"name": "pea", "got": int}),
    ],
)
def test_refuses(refuses, options, error, data):
    with refuses(error, **data):
        PEA.of(options)


def test_the_ladder_is_that_of_table_2():
    """Each rung adds one thing to the one before; only the corrections of inference are named outside PEA."""
    assert list(LADDER) == [
        "base",
        "+ fixed augmentation",
        "+ TVN at inference",
        "+ step dropping",
        "+ control sampling",
    ]
    assert [rung["student_correction"] for rung in LADDER.values()] == [None, None, "tvn", "tvn", "tvn"]
    base, fixed, tvn, dropping, full = (PEA.of(rung["pea"]) for rung in LADDER.values())
    assert base is None
    assert fixed == tvn
    assert fixed.plans == dict.fromkeys(STEPS.values(), pytest.approx(1 / 3))
    assert [pea.control_law for pea in (fixed, dropping, full)] == ["all", "all", "uniform"]
    assert dropping.plans == full.plans
    assert full == PEA()
    assert fixed.params | {"drop_probability": 0.5} == dropping.params
    assert dropping.params | {"control_law": "uniform"} == full.params
    assert all(rung.keys() == {"student_correction", "pea"} for rung in LADDER.values())
