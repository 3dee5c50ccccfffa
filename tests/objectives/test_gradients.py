"""Gradients of every objective, and how far each one can be brought on a single mini-batch."""

from math import exp, log, log1p, pi, sqrt
from unittest.mock import patch

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from semiclip.objectives import OBJECTIVES, C2kd, Clip, Dcca, Kd, LabelObjective, SemiClipped, Shake, SigLip, Vicreg
from semiclip.objectives import soft_divergence as divergence

N_CLASSES = 4
CASES = {
    "semiclip": SemiClipped,
    "semiclip, symmetric": lambda: SemiClipped(symmetric=True, temperature=0.5),
    "semiclip, mask": lambda: SemiClipped(duplicates="mask", temperature=0.5),
    "semiclip, multi_positive": lambda: SemiClipped(duplicates="multi_positive", temperature=0.5),
    "clip": Clip,
    "clip, multi_positive": lambda: Clip(duplicates="multi_positive", temperature=0.5),
    "siglip": lambda: SigLip(scale=3.0, bias=-1.0),
    "vicreg": Vicreg,
    "dcca": Dcca,
    "kd": Kd,
    "shake": Shake,
    "shake, all weights": lambda: Shake(alpha=1.0, beta=1.0),
    "shake, original": lambda: Shake(variant="original", alpha=0.5),
    "c2kd": lambda: C2kd(threshold=-0.5),
    "c2kd, zero": lambda: C2kd(threshold=-0.5, nontarget="zero", average="all"),
}


def made(case, n=12, d_student=3, d_teacher=3):
    """An objective with its heads and a mini-batch, in float64."""
    torch.manual_seed(0)
    objective = CASES[case]()
    if isinstance(objective, LabelObjective):
        objective.set_classes(d_student, d_teacher, N_CLASSES)
    student, teacher = (torch.randn(n, d, dtype=torch.float64) for d in (d_student, d_teacher))
    return objective.double(), student, teacher, torch.randint(N_CLASSES, (n,))


class Held:
    """Gives what is detached the values that it had in a first run, as the analytic gradient takes it to have."""

    def __init__(self, run):
        detach, self.values = torch.Tensor.detach, []

        def keep(tensor):
            self.values.append(detach(tensor).clone())
            return self.values[-1]

        with patch.object(torch.Tensor, "detach", keep):
            run()

    def __call__(self, run):
        values = iter(self.values)
        with patch.object(torch.Tensor, "detach", lambda tensor: next(values)):
            return run()


def test_every_objective_is_a_case():
    assert set(OBJECTIVES) <= set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_gradient(case):
    """Of the student, of what the objective learns, and of the teacher unless it is frozen."""
    objective, student, teacher, label = made(case)
    fixed = set(objective.spec.frozen)
    parameters = {name: value for name, value in objective.named_parameters() if not set(name.split(".")) & fixed}
    frozen = "teacher" in fixed
    inputs = [student, *([] if frozen else [teacher]), *parameters.values()]
    inputs = [value.detach().clone().requires_grad_() for value in inputs]

    def loss(student, *others):
        others = list(others)
        against = teacher if frozen else others.pop(0)
        values = dict(zip(parameters, others, strict=True))
        return torch.func.functional_call(objective, values, (student, against, label))

    held = Held(lambda: loss(*inputs)) if isinstance(objective, LabelObjective) else lambda run: run()
    assert torch.autograd.gradcheck(lambda *values: held(lambda: loss(*values)), inputs)


@pytest.mark.parametrize("case", [case for case in CASES if isinstance(CASES[case](), LabelObjective)])
def test_nothing_depends_on_values_that_the_device_has_to_be_waited_for(case):
    """Tensors without values refuse it; only so can a step be captured as a CUDA graph."""
    objective, *data = made(case)
    assert objective.spec.capturable
    loss = objective.to("meta")(*(value.to("meta") for value in data))
    assert loss.shape == ()
    loss.backward()


def learn(objective, student, teacher, label, width, steps=400):
    """Bring linear maps and what the objective learns as far as Adam can; return both embeddings and the loss."""
    torch.manual_seed(0)
    map_student = nn.Linear(student.shape[1], width)
    map_teacher = nn.Linear(teacher.shape[1], width) if objective.spec.adapts_teacher else nn.Identity()
    learned = [*map_student.parameters()]
    if isinstance(objective, LabelObjective):
        objective.set_classes(width, width, N_CLASSES)
        with torch.no_grad():  # what pretraining leaves: a teacher that knows its classes, but not beyond doubt
            map_teacher.weight.copy_(torch.eye(width, teacher.shape[1]))
            objective.heads["teacher_head"].weight.copy_(3 * torch.eye(N_CLASSES, width))
            for layer in (map_teacher, objective.heads["teacher_head"]):
                layer.bias.zero_()
        objective.begin()
        heads = [head for name, head in objective.heads.items() if name not in objective.spec.frozen]
        learned += [*nn.ModuleList(heads).parameters()]
    else:
        learned += [*objective.parameters()]
    if "teacher" not in objective.spec.frozen:
        learned += [*map_teacher.parameters()]
    optimizer = torch.optim.Adam(learned, 0.05)
    annealing = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = objective(map_student(student), map_teacher(teacher), label)
        loss.backward()
        optimizer.step()
        annealing.step()
    return map_student(student).detach(), map_teacher(teacher).detach(), loss.item()


SIGNS = torch.tensor([[(-1.0) ** ((i >> bit) & 1) for bit in range(3)] for i in range(8)])
GAPS = {SemiClipped: sqrt(7 / 8) + 1 / sqrt(7 * 8), Clip: 1 + 1 / 7}


@pytest.mark.parametrize(
    ("objective", "teacher", "least", "near"),
    [
        # of B orthogonal teacher rows the best cosines are those of a simplex, as of both sides if both are free
        *[(kind(temperature=1.0), torch.eye(8), log1p(7 * exp(-gap)), 2e-3) for kind, gap in GAPS.items()],
        (SigLip(), torch.eye(8), 0, 0.01),
        (Vicreg(), SIGNS, 0, 1e-3),  # of a teacher that varies independently
        (Dcca(), torch.randn(12, 3, generator=torch.Generator().manual_seed(0)), -3, 0.01),
    ],
)
def test_reaches_the_least_loss(objective, teacher, least, near):
    """From one-hot student rows, of which a linear map can make anything."""
    n, width = teacher.shape
    embedded, _, loss = learn(objective, torch.eye(n), teacher, torch.arange(n), width)
    assert loss == pytest.approx(least, abs=near)
    if isinstance(objective, Vicreg):
        torch.testing.assert_close(embedded, teacher, atol=0.01, rtol=0)


def classes():
    """Eight rows of four classes, whose teacher rows are one-hot and so known without fault."""
    label = torch.arange(8) % N_CLASSES
    return torch.eye(8), torch.nn.functional.one_hot(label, N_CLASSES).float(), label


def least_distillation(temperature, alpha):
    """The least of cross-entropy and distillation over all logits, given those of the teacher."""
    _, teacher, label = classes()
    logits = torch.zeros(8, N_CLASSES, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-10)

    def closure():
        optimizer.zero_grad()
        loss = cross_entropy(logits, label) + alpha * divergence(logits, 3 * teacher.double(), temperature)
        loss.backward()
        return loss

    optimizer.step(closure)
    return closure().item()


def reaches(objective, least, **tolerance):
    """Whether an objective is brought to its least loss, and each side to know its classes."""
    *sides, loss = learn(objective, *classes(), N_CLASSES)
    trained = [side for side in ("student", "teacher") if side not in objective.spec.frozen]
    for side, embedded in zip(trained, sides, strict=False):
        assert torch.equal(objective.heads[f"{side}_head"](embedded).argmax(dim=1), classes()[2])
    return loss == pytest.approx(least, **tolerance)


@pytest.mark.parametrize(("objective", "near"), [(Kd(), 1e-3), (Shake(), 0.02), (Shake(shadow_start="teacher"), 0.02)])
def test_distillation_reaches_its_compromise_between_teacher_and_classes(objective, near):
    """Which is that of free logits; a shadow that hardly moves from the teacher does not change it by much."""
    _, teacher, label = classes()
    least = least_distillation(9.0, 10.0)
    assert 0 < least < cross_entropy(3 * teacher, label)
    assert reaches(objective, least, rel=near)


@pytest.mark.parametrize(("start", "near"), [("teacher", 4e-5), ("fresh", 2e-3)])  # which goes there from 49
def test_the_original_shake_reaches_the_most_certain_of_normalised_logits(start, near):
    """All logits are then the same one-hot pattern, whose normalised gap is C / sqrt(C - 1)."""
    least = 2 * log(1 + (N_CLASSES - 1) * exp(-pi * N_CLASSES / sqrt(N_CLASSES - 1)))
    assert reaches(Shake(variant="original", shadow_start=start), least, abs=near)


@pytest.mark.parametrize("nontarget", ["exclude", "zero"])
def test_both_branches_of_c2kd_reach_zero(nontarget):
    assert reaches(C2kd(nontarget=nontarget), 0, abs=0.02)
