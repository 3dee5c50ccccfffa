from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import entropy, kendalltau

from semiclip.objectives import C2kd

HEADS = ["student_head", "student_proxy", "teacher_head", "teacher_proxy"]


def batch(seed=0, n=12, d_student=4, d_teacher=6, c=6, **arguments):
    """An objective with heads and a mini-batch, in float64."""
    torch.manual_seed(seed)
    objective = C2kd(**arguments)
    objective.set_classes(d_student, d_teacher, c)
    student, teacher = (3 * torch.randn(n, d, dtype=torch.float64) for d in (d_student, d_teacher))
    return objective.double(), student, teacher, torch.randint(c, (n,))


def said(objective, student, teacher):
    """Logits of heads and proxies as arrays."""
    sides = {"student": student, "teacher": teacher}
    return [objective.heads[name](sides[name.split("_")[0]]).detach().numpy() for name in HEADS]


def kd(a, b, t):
    return t**2 * entropy(softmax(b / t, axis=-1), softmax(a / t, axis=-1), axis=-1)


def ce(logits, label):
    return -log_softmax(logits, axis=1)[np.arange(len(label)), label].mean()


def naive(us, qs, ut, qt, label, *, temperature=2.0, threshold=0.3, nontarget="exclude", average="kept"):
    """The terms as they are written, and how many rows are kept."""
    within = ce(us, label) + ce(ut, label)
    for u, q in ((us, qs), (ut, qt)):
        within += kd(q, u, temperature).mean() + kd(u, q, temperature).mean()
    across = []
    for a, b, y in zip(qs, qt, label, strict=True):
        if kendalltau(a, b).statistic > threshold:
            if nontarget == "exclude":
                a, b = np.delete(a, y), np.delete(b, y)
            else:
                a, b = np.where(np.arange(len(a)) == y, 0, a), np.where(np.arange(len(b)) == y, 0, b)
            across.append(kd(a, b, temperature) + kd(b, a, temperature))
    n = len(across) if average == "kept" else len(label)
    return within + (sum(across) / n if across else 0), len(across)


@pytest.mark.parametrize("nontarget", ["exclude", "zero"])
@pytest.mark.parametrize("average", ["kept", "all"])
@pytest.mark.parametrize(("temperature", "threshold"), [(2.0, 0.3), (1.0, 0.0), (4.0, -1.0), (2.0, 1.0)])
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_terms_as_they_are_written(nontarget, average, temperature, threshold, seed):
    arguments = {"temperature": temperature, "threshold": threshold, "nontarget": nontarget, "average": average}
    objective, student, teacher, label = batch(seed, **arguments)
    expected, n_kept = naive(*said(objective, student, teacher), label.numpy(), **arguments)
    assert n_kept == (0 if threshold == 1 else 12) or -1 < threshold < 1
    loss = objective(student, teacher, label)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_some_rows_are_kept_by_default_and_not_all():
    objective, student, teacher, label = batch()
    assert 0 < naive(*said(objective, student, teacher), label.numpy())[1] < 12
    plain = (objective.temperature, objective.threshold, objective.nontarget, objective.average)
    assert plain == (2, 0.3, "exclude", "kept")


def only_across(threshold, **arguments):
    """What the proxies' agreement adds, and its gradients."""
    objective, student, teacher, label = batch(threshold=threshold, **arguments)
    proxies = [torch.from_numpy(x).requires_grad_() for x in said(objective, student, teacher)[1::2]]
    loss = objective._across(*proxies, label)
    loss.backward()
    return loss, [x.grad for x in proxies]


def test_no_row_that_agrees_adds_nothing_and_has_no_gradient():
    loss, gradients = only_across(1.0)
    assert loss.item() == 0
    assert all((each == 0).all() for each in gradients)


def test_two_classes_have_nothing_but_the_label_and_its_complement():
    loss, gradients = only_across(-1.0, c=2)
    assert loss.item() == 0
    assert all((each == 0).all() for each in gradients)
    assert only_across(-1.0, c=2, nontarget="zero")[0].item() > 0


def test_only_rows_that_agree_have_gradients_and_no_label_has():
    objective, student, teacher, label = batch()
    _, qs, _, qt = said(objective, student, teacher)
    kept = [kendalltau(a, b).statistic > 0.3 for a, b in zip(qs, qt, strict=True)]
    _, gradients = only_across(0.3)
    for each in gradients:
        assert each.abs().sum(dim=1).gt(0).tolist() == kept
        assert (each[torch.arange(12), label] == 0).all()


def test_constant_logits_do_not_agree_even_at_the_lowest_threshold():
    objective, student, teacher, label = batch(threshold=-1.0)
    for parameter in objective.heads["student_proxy"].parameters():
        torch.nn.init.zeros_(parameter)
    objective(student, teacher, label).backward()
    expected, _ = naive(*said(objective, student, teacher), label.numpy(), threshold=1.0)
    assert objective(student, teacher, label).item() == pytest.approx(expected, rel=1e-12)
    assert all(each.grad.isfinite().all() for each in objective.parameters())


def test_averages_differ_by_the_share_that_is_kept():
    objective, student, teacher, label = batch()
    n_kept = naive(*said(objective, student, teacher), label.numpy())[1]
    kept, every = (only_across(0.3, average=average)[0].item() for average in ("kept", "all"))
    assert every == pytest.approx(kept * n_kept / 12, rel=1e-12)


def test_each_divergence_teaches_one_side():
    """Gradients of the biases as they are derived by hand."""
    objective, student, teacher, label = batch(threshold=1.0)
    objective(student, teacher, label).backward()
    logits = dict(zip(HEADS, map(torch.from_numpy, said(objective, student, teacher)), strict=True))
    t, truth = 2.0, torch.nn.functional.one_hot(label, 6)
    for side in ("student", "teacher"):
        head, proxy = logits[f"{side}_head"], logits[f"{side}_proxy"]
        apart = t * ((head / t).softmax(1) - (proxy / t).softmax(1))
        found = {part: objective.heads[f"{side}_{part}"].bias.grad for part in ("head", "proxy")}
        torch.testing.assert_close(found["head"], (head.softmax(1) - truth + apart).mean(0))
        torch.testing.assert_close(found["proxy"], -apart.mean(0))


def test_both_sides_are_trained():
    objective, student, teacher, label = batch()
    student.requires_grad_()
    teacher.requires_grad_()
    objective(student, teacher, label).backward()
    assert C2kd.frozen == ()
    assert all(each.grad.abs().sum() > 0 for each in (student, teacher, *objective.parameters()))


def test_the_loss_is_not_taken_in_half_precision():
    objective, student, teacher, label = batch(threshold=-1.0)
    objective, student, teacher = objective.float(), student.float(), teacher.float()
    with torch.autocast("cpu", torch.bfloat16):
        loss = objective(student, teacher, label)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(objective(student, teacher, label).item(), rel=0.03)


def test_the_paper_s_rates():
    rates = dict.fromkeys(["student_head", "student_proxy"], 1e-5) | dict.fromkeys(
        ["teacher_head", "teacher_proxy"], 1e-3
    )
    assert C2kd.profiles["paper"] == {"lr": {"student": 0.1, "teacher": 1e-6, **rates}, "min_lr": 1e-7}
    assert set(C2kd.profiles["default"]["lr"]) == {"student", "teacher"}  # heads follow the student


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan")])
def test_refuses_a_temperature(temperature):
    with pytest.raises(ValueError, match=f"temperature={temperature} must be positive"):
        C2kd(temperature=temperature)


@pytest.mark.parametrize("threshold", [-1.1, 2, float("nan")])
def test_refuses_a_threshold(threshold):
    with pytest.raises(ValueError, match=rf"threshold={threshold} must be within \[-1, 1\], as a rank correlation is"):
        C2kd(threshold=threshold)


def test_refuses_unknown_choices():
    with pytest.raises(ValueError, match="nontarget='drop' is not one of exclude, zero"):
        C2kd(nontarget="drop")
    with pytest.raises(ValueError, match="average='some' is not one of kept, all"):
        C2kd(average="some")
