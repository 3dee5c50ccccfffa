"""Objectives that learn from labels, against their terms as they are written."""

from math import pi

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import entropy, kendalltau
from torch.nn.functional import cross_entropy, layer_norm, one_hot

from semiclip.objectives import C2kd, Kd, Shake, kendall, non_target_divergence, soft_divergence

KINDS = [Kd, Shake, lambda **options: Shake(variant="original", **options), C2kd]


def batch(kind, seed=0, n=12, d_student=4, d_teacher=6, c=6, **options):
    """An objective with heads and a mini-batch, in float64."""
    torch.manual_seed(seed)
    objective = kind(**options)
    objective.set_classes(d_student, d_teacher, c)
    student, teacher = (3 * torch.randn(n, d, dtype=torch.float64) for d in (d_student, d_teacher))
    return objective.double(), student, teacher, torch.randint(c, (n,))


def logits(objective, student, teacher):
    """Logits of each head as arrays."""
    sides = {"student": student, "teacher": teacher}
    return {name: head(sides[objective.heads_of[name]]).detach().numpy() for name, head in objective.heads.items()}


def kd(a, b, t):
    return t**2 * entropy(softmax(b / t, axis=-1), softmax(a / t, axis=-1), axis=-1)


def ce(logits, label):
    return -log_softmax(logits, axis=1)[np.arange(len(label)), label].mean()


def bias_gradients(objective, *data):
    """Gradients of the biases, which are those of the logits summed over rows."""
    objective(*data).backward()
    return {name: head.bias.grad for name, head in objective.heads.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_not_taken_in_half_precision(kind):
    objective, student, teacher, label = batch(kind)
    objective, student, teacher = objective.float(), student.float(), teacher.float()
    with torch.autocast("cpu", torch.bfloat16):
        losses = [objective(student, teacher, label), objective.pretrain(student, teacher, label)]
    full = [objective(student, teacher, label), objective.pretrain(student, teacher, label)]
    assert [loss.dtype for loss in losses] == [torch.float32] * 2
    assert [loss.item() for loss in losses] == pytest.approx([loss.item() for loss in full], rel=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_pretraining_is_the_cross_entropy_of_both_sides(kind):
    objective, *data, label = batch(kind)
    heads = logits(objective, *data)
    expected = ce(heads["student_head"], label) + ce(heads["teacher_head"], label)
    assert objective.pretrain(*data, label).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS[:3])
def test_a_frozen_teacher_is_only_listened_to(kind):
    objective, student, teacher, label = batch(kind, alpha=1.0)
    teacher.requires_grad_()
    objective(student, teacher, label).backward()
    assert teacher.grad is None
    for name, head in objective.heads.items():
        assert (head.weight.grad is None) == (name == "teacher_head")
    assert abs(objective(student, teacher, label) - objective(student, teacher.roll(1, 0), label)) > 0.01


# ---- KD


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "alpha": 0.5}, {"temperature": 4.0, "alpha": 1.0}])
def test_kd_equals_cross_entropy_and_the_entropies_of_scipy(options):
    objective, student, teacher, label = batch(Kd, **options)
    heads = logits(objective, student, teacher)
    temperature, alpha = options.get("temperature", 9), options.get("alpha", 10)
    expected = ce(heads["student_head"], label)
    expected += alpha * kd(heads["student_head"], heads["teacher_head"], temperature).mean()
    loss = objective(student, teacher, label)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(expected, rel=1e-12)


# ---- SHAKE


def naive_shake(u, v, q, label, *, variant, temperature, alpha, beta, gamma):
    """The terms as they are written."""
    if variant == "paper":
        shadow = beta * kd(q, u, temperature).mean() + kd(q, v, temperature).mean()
        return gamma * ce(u, label) + alpha * kd(u, q, temperature).mean() + shadow
    u, v, q = (pi * (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) for x in (u, v, q))
    online = kd(q, u, temperature).mean() + kd(u, q, temperature).mean() + ce(q, label) + ((q - v) ** 2).mean()
    return gamma * ce(u, label) + alpha * kd(u, v, temperature).mean() + beta * online


@pytest.mark.parametrize("variant", ["paper", "original"])
@pytest.mark.parametrize("weights", [None, (1.0, 1.0, 1.0), (2.0, 0.3, 0.7), (0.0, 1.0, 0.0), (3.0, 0.0, 0.5)])
def test_shake_equals_the_terms_as_they_are_written(variant, weights):
    options = {"variant": variant}
    if weights:
        options |= dict(zip(("alpha", "beta", "gamma"), weights, strict=True), temperature=3.0)
    objective, student, teacher, label = batch(Shake, **options)
    defaults = {"paper": (9.0, 10.0, 1e-3, 1.0), "original": (4.0, 0.0, 1.0, 1.0)}[variant]
    options = dict(zip(("temperature", "alpha", "beta", "gamma"), defaults, strict=True)) | options
    assert all(getattr(objective, name) == value for name, value in options.items())
    heads = logits(objective, student, teacher)
    expected = naive_shake(heads["student_head"], heads["teacher_head"], heads["shadow"], label, **options)
    assert objective(student, teacher, label).item() == pytest.approx(expected, rel=1e-12)


def test_shake_s_student_and_shadow_learn_nothing_from_what_teaches_the_other():
    silent, taught = (bias_gradients(*batch(Shake, alpha=a, beta=0.0, gamma=g)) for a, g in ((0.0, 0.0), (10.0, 1.0)))
    assert (silent["student_head"] == 0).all()
    assert (taught["student_head"] != 0).any()
    assert torch.equal(silent["shadow"], taught["shadow"]), "it still learns from the teacher"
    shadow_alone = bias_gradients(*batch(Shake, alpha=0.0, beta=1.0, gamma=0.0))
    assert (shadow_alone["student_head"] == 0).all()
    assert (shadow_alone["shadow"] != 0).any()


def test_the_original_shake_s_online_terms_each_have_one_side():
    """Gradients of both directions as they are derived by hand, through the normalisation of the logits."""
    objective, student, teacher, label = batch(Shake, variant="original", gamma=0.0)
    gradients = bias_gradients(objective, student, teacher, label)
    t, n, heads = 4.0, len(label), logits(objective, student, teacher)
    u, v, q = (torch.from_numpy(heads[name]).requires_grad_() for name in ("student_head", "teacher_head", "shadow"))
    nu, nv, nq = (pi * layer_norm(x, x.shape[1:]) for x in (u, v, q))
    pu, pq = ((x / t).softmax(1).detach() for x in (nu, nq))
    truth = one_hot(label, 6)
    on_shadow = t * (pq - pu) / n + (nq.softmax(1) - truth).detach() / n + (2 * (nq - nv) / nq.numel()).detach()
    (to_u,) = torch.autograd.grad(nu, u, t * (pu - pq) / n)
    (to_q,) = torch.autograd.grad(nq, q, on_shadow)
    torch.testing.assert_close(gradients["student_head"], to_u.sum(0))
    torch.testing.assert_close(gradients["shadow"], to_q.sum(0))


def test_a_shadow_that_begins_as_the_teacher_s_head_makes_it_distillation():
    objective, student, teacher, label = batch(Shake, beta=0.0, shadow_start="teacher")
    before = {name: value.clone() for name, value in objective.heads.state_dict().items()}
    objective.begin()
    shadow, head = objective.heads["shadow"], objective.heads["teacher_head"]
    assert torch.equal(shadow.weight, head.weight)
    assert torch.equal(shadow.bias, head.bias)
    assert shadow.weight.data_ptr() != head.weight.data_ptr()
    for name, value in objective.heads.state_dict().items():
        assert torch.equal(value, before[name]) == ("shadow" not in name)
    plain = batch(Kd)[0]
    plain.heads.load_state_dict({k: x for k, x in objective.heads.state_dict().items() if "shadow" not in k})
    assert objective(student, teacher, label).item() == pytest.approx(plain(student, teacher, label).item(), rel=1e-12)


@pytest.mark.parametrize("variant", ["paper", "original"])
def test_the_published_shadow_begins_with_random_weights_of_its_own(variant):
    def begun(seed=0, **options):
        objective, *data = batch(Shake, seed, variant=variant, **options)
        made = {name: value.clone() for name, value in objective.heads.state_dict().items()}
        objective.begin()
        return objective, data, made

    (default, data, made), (fresh, *_), (other, *_) = begun(), begun(shadow_start="fresh"), begun(seed=1)
    assert default.shadow_start == "fresh"
    for name, value in default.heads.state_dict().items():  # as they were made, which the seed decides
        assert torch.equal(value, made[name])
        assert torch.equal(value, fresh.heads.state_dict()[name])
        assert not torch.equal(value, other.heads.state_dict()[name])
    assert not torch.allclose(default.heads["shadow"].weight, default.heads["teacher_head"].weight, atol=1e-3)
    copied, _, _ = begun(shadow_start="teacher")
    loss, copied_loss = (objective(*data).item() for objective in (default, copied))
    assert loss != pytest.approx(copied_loss, rel=1e-3)
    copied.heads["shadow"].load_state_dict(default.heads["shadow"].state_dict())
    # nothing but the start differs: of the same heads the loss and its gradients are the same
    assert copied(*data).item() == loss
    one, two = bias_gradients(default, *data), bias_gradients(copied, *data)
    assert all(torch.equal(one[name], two[name]) for name in one if one[name] is not None)
    assert [name for name in one if one[name] is not None] == ["student_head", "shadow"]


# ---- C2KD


def naive_c2kd(heads, label, *, temperature=2.0, threshold=0.3, nontarget="exclude", average="kept"):
    """The terms as they are written, and which rows are kept."""
    label, within, across, kept = label.numpy(), 0, 0, []
    for side in ("student", "teacher"):
        u, q = heads[f"{side}_head"], heads[f"{side}_proxy"]
        within += ce(u, label) + kd(q, u, temperature).mean() + kd(u, q, temperature).mean()
    for a, b, y in zip(heads["student_proxy"], heads["teacher_proxy"], label, strict=True):
        kept.append(bool(kendalltau(a, b).statistic > threshold))
        if not kept[-1]:
            continue
        if nontarget == "exclude":
            a, b = np.delete(a, y), np.delete(b, y)
        else:
            a, b = np.where(np.arange(len(a)) == y, 0, a), np.where(np.arange(len(b)) == y, 0, b)
        across += kd(a, b, temperature) + kd(b, a, temperature)
    return within + across / max(1, sum(kept) if average == "kept" else len(label)), sum(kept)


@pytest.mark.parametrize("choices", [{}, {"average": "all"}, {"nontarget": "zero"}])
@pytest.mark.parametrize(
    ("bounds", "n_kept"),
    [
        ({}, range(1, 12)),
        ({"temperature": 1.0, "threshold": 0.0}, range(1, 12)),
        ({"temperature": 4.0, "threshold": -1.0}, [12]),
        ({"threshold": 1.0}, [0]),
    ],
)
@pytest.mark.parametrize("seed", range(2))
def test_c2kd_equals_the_terms_as_they_are_written(choices, bounds, n_kept, seed):
    objective, student, teacher, label = batch(C2kd, seed, **choices, **bounds)
    expected, kept = naive_c2kd(logits(objective, student, teacher), label, **choices, **bounds)
    assert kept in n_kept
    assert objective(student, teacher, label).item() == pytest.approx(expected, rel=1e-12)


def test_c2kd_s_constant_logits_do_not_agree_even_at_the_lowest_threshold():
    objective, student, teacher, label = batch(C2kd, threshold=-1.0)
    for parameter in objective.heads["student_proxy"].parameters():
        torch.nn.init.zeros_(parameter)
    loss = objective(student, teacher, label)
    loss.backward()
    expected, _ = naive_c2kd(logits(objective, student, teacher), label, threshold=1.0)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    assert all(parameter.grad.isfinite().all() for parameter in objective.parameters())


def test_each_divergence_of_c2kd_teaches_one_side():
    """Gradients of the biases as they are derived by hand."""
    objective, student, teacher, label = batch(C2kd, threshold=1.0)
    student.requires_grad_()
    teacher.requires_grad_()
    gradients = bias_gradients(objective, student, teacher, label)
    heads = {name: torch.from_numpy(array) for name, array in logits(objective, student, teacher).items()}
    for side in ("student", "teacher"):
        head, proxy = heads[f"{side}_head"], heads[f"{side}_proxy"]
        apart = 2 * ((head / 2).softmax(1) - (proxy / 2).softmax(1))
        torch.testing.assert_close(gradients[f"{side}_head"], (head.softmax(1) - one_hot(label, 6) + apart).mean(0))
        torch.testing.assert_close(gradients[f"{side}_proxy"], -apart.mean(0))
    assert all(value.grad.abs().sum() > 0 for value in (student, teacher, *objective.parameters()))
    assert cross_entropy(heads["student_head"], label).item() == pytest.approx(ce(heads["student_head"], label))


@pytest.mark.parametrize("nontarget", ["exclude", "zero"])
def test_c2kd_s_gradient_is_that_of_its_divergences_one_by_one(nontarget):
    objective, *sides, label = batch(C2kd, threshold=0.0, nontarget=nontarget)
    parameters = list(objective.parameters())
    gradients = torch.autograd.grad(objective(*sides, label), parameters)

    u_s, u_t, q_s, q_t = (
        objective.logits(f"{side}_{part}", rows)
        for part in ("head", "proxy")
        for side, rows in zip(("student", "teacher"), sides, strict=True)
    )
    loss = sum(cross_entropy(u, label) for u in (u_s, u_t))
    for u, q in ((u_s, q_s), (u_t, q_t)):
        loss += soft_divergence(q, u.detach(), 2.0) + soft_divergence(u, q.detach(), 2.0)
    kept = kendall(q_s, q_t) > 0
    assert 1 < kept.sum() < 12
    for a, b in ((q_s, q_t), (q_t, q_s)):
        loss += non_target_divergence(a, b.detach(), label, 2.0, nontarget=nontarget)[kept].mean()
    for one, other in zip(gradients, torch.autograd.grad(loss, parameters), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)


def many_classes(n_pairs):
    """A mini-batch of 300 classes whose proxies agree, some rows more than others."""
    objective, student, teacher, label = batch(C2kd, n=200, c=300, d_teacher=4, n_pairs=n_pairs)
    objective.heads["teacher_proxy"].load_state_dict(objective.heads["student_proxy"].state_dict())
    return objective, student, student + torch.linspace(0, 2, 200)[:, None] * teacher, label


def test_c2kd_takes_all_pairs_if_told_to_and_few_rows_need_them():
    (exact, *data), (some, *_) = many_classes(None), many_classes(4096)
    expected, kept = naive_c2kd(logits(exact, *data[:2]), data[2])
    assert 50 < kept < 190
    assert exact(*data).item() == pytest.approx(expected, rel=1e-12)
    assert many_classes(300 * 299 // 2)[0](*data).item() == pytest.approx(expected, rel=1e-12)
    loss = some(*data).item()
    assert loss == pytest.approx(expected, rel=0.01)
    assert loss == some(*data).item()  # nothing was drawn
    order = torch.randperm(200)
    assert some(*(part[order] for part in data)).item() == pytest.approx(loss, rel=1e-12)


def test_c2kd_takes_other_pairs_for_other_mini_batches(monkeypatch):
    import semiclip.objectives._distillation as room

    objective, student, teacher, label = many_classes(300)
    seen, estimate = [], room.estimate_kendall
    monkeypatch.setattr(room, "estimate_kendall", lambda a, b, **how: seen.append(estimate(a, b, **how)) or seen[-1])
    for labels in (label, label.flip(0), (label + 1) % 300):
        objective(student, teacher, labels)
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])
