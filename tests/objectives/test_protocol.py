"""What holds for every objective that a model can be made with."""

import pytest
import torch
from torch import nn

from semiclip import errors
from semiclip.objectives import OBJECTIVES, PRESETS, PRETRAINING, Kd, LabelObjective, Objective, Spec

LABELS = {"kd", "shake", "c2kd"}
every = pytest.mark.parametrize("name", OBJECTIVES)


def batch(n=48, n_student=6, n_teacher=4):
    rng = torch.Generator().manual_seed(0)
    return torch.randn(n, n_student, generator=rng), torch.randn(n, n_teacher, generator=rng), torch.arange(n)


def make(name, n_classes=48, width=4):
    """Return an objective, with heads where it has any."""
    torch.manual_seed(0)
    objective = OBJECTIVES[name]()
    if name in LABELS:
        objective.set_classes(width, width, n_classes)
        objective.begin()
    return objective


@every
def test_states_what_a_model_asks(name):
    objective = OBJECTIVES[name]()
    assert isinstance(objective, Objective)
    spec = objective.spec
    assert spec.needs_labels == isinstance(objective, LabelObjective) == (name in LABELS)
    assert spec.same_space == (name not in LABELS | {"dcca"})
    assert spec.adapts_teacher == (name in LABELS | {"clip"})
    assert spec.frozen == (("teacher", "teacher_head") if name in ("kd", "shake") else ())
    assert spec.capturable == (name != "dcca")
    assert (objective.width(768), objective.width(16)) == (30 if name == "dcca" else 768, 16)


def test_a_spec_asks_for_nothing_by_default_and_cannot_be_changed():
    assert Spec() == Spec(needs_labels=False, adapts_teacher=False, frozen=(), same_space=True, capturable=True)
    with pytest.raises(AttributeError):
        Spec().frozen = ("student",)


def test_every_objective_has_rates_to_start_from():
    assert list(PRESETS) == list(OBJECTIVES)
    assert PRETRAINING == dict.fromkeys(LABELS, {"lr": 0.1})


@every
def test_rates_are_of_parts_that_a_model_trains(name):
    kind = OBJECTIVES[name]
    heads = {*getattr(kind, "heads_of", ())}
    trained = {"student", *(["teacher"] if kind.spec.adapts_teacher else []), *heads} - set(kind.spec.frozen)
    # the paper has a rate for an adapter that its code freezes, and for adapters that a model is only asked for
    for preset, allowed in (("default", trained), ("paper", trained | {"teacher"})):
        lr = PRESETS[name][preset]["lr"]
        assert {"student"} <= set(lr if isinstance(lr, dict) else {"student": lr}) <= allowed


@every
def test_the_fewest_rows_that_have_a_finite_loss(name, refuses):
    objective, least = make(name), {"vicreg": 2, "dcca": 10}.get(name, 1)
    assert objective.min_batch_size(4, 4) == least
    _, teacher, key = batch(least)
    assert objective(teacher + 1, teacher, key).isfinite()
    if least > 1:
        with refuses(errors.TooFew, number=least - 1, needed=least, way_out=objective.spec.few_rows):
            objective(teacher[1:] + 1, teacher[1:], key[1:])


@every
def test_learns_one_mini_batch_by_heart_and_tells_its_pairs_apart(name):
    """An adapter comes close to a student that is the teacher, and heads here know each row of the teacher."""
    student, teacher, key = batch()
    objective = make(name)
    for head in getattr(objective, "heads", {}).values():
        nn.init.zeros_(head.bias)
        with torch.no_grad():
            head.weight.copy_(20 * nn.functional.normalize(teacher, dim=1))
    least = objective(teacher, teacher, key).item()
    assert objective(teacher, teacher.roll(1, 0), key).item() > least + 1
    adapter = nn.Sequential(nn.Linear(6, 256), nn.ReLU(), nn.Linear(256, 4))
    assert objective(adapter(student), teacher, key).item() > least + 1
    optimizer = torch.optim.Adam(adapter.parameters(), 3e-3)
    for _ in range(450):
        optimizer.zero_grad()
        loss = objective(adapter(student), teacher, key)
        loss.backward()
        optimizer.step()
    assert loss.item() < least + 0.3
    embedded = adapter(student).detach()
    if name in LABELS:
        told = objective.logits("student_head", embedded).argmax(dim=1)
    elif objective.spec.same_space:
        told = (nn.functional.normalize(embedded) @ nn.functional.normalize(teacher).T).argmax(dim=1)
    else:
        return
    assert (told == key).float().mean() > 0.9


@every
def test_the_order_of_pairs_does_not_matter(name):
    student, teacher, key = batch(n_student=4)
    order, objective = torch.randperm(48, generator=torch.Generator().manual_seed(1)), make(name)
    student = student + teacher
    torch.testing.assert_close(objective(student[order], teacher[order], key[order]), objective(student, teacher, key))


def test_refuses_one_class_and_heads_that_are_not_made(refuses):
    objective = Kd()
    with refuses(errors.TooFew, number=1, needed=2):
        objective.set_classes(4, 6, 1)
    with refuses(errors.Refused, way_out="call set_classes first"):
        objective(*batch())


REFUSED = {
    "semiclip": {"temperature": (0, -0.1, float("nan")), "duplicates": ("drop",)},
    "siglip": {"scale": (0, -1, float("nan")), "bias": (float("nan"),)},
    "vicreg": dict.fromkeys(["invariance", "variance", "covariance"], (-1, float("nan"))),
    "dcca": {"n_components": (0, 1.5), "k": (0,), "epsilon": (-1, float("nan"))},
    "kd": {"temperature": (0, -1.0, float("nan")), "alpha": (-1, float("nan"))},
    "shake": {
        "temperature": (0, -1.0),
        "variant": ("released",),
        "shadow_start": ("student",),
        **dict.fromkeys(["alpha", "beta", "gamma"], (-1,)),
    },
    "c2kd": {
        "temperature": (0, float("nan")),
        "threshold": (-1.1, 2, float("nan")),
        "nontarget": ("drop",),
        "average": ("some",),
        "n_pairs": (0, -1, 1.5, True),
    },
}


CASES = [(name, *case) for name, options in REFUSED.items() for case in options.items()]


@pytest.mark.parametrize(("name", "option", "values"), CASES)
def test_refuses_options(name, option, values, refuses):
    for value in values:
        with refuses(errors.UnknownChoice if isinstance(value, str) else errors.BadValue, name=option, value=value):
            OBJECTIVES[name](**{option: value})
