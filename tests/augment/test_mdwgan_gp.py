import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.spatial.distance import cdist

from semiclip import errors
from semiclip.augment import MDWGANGP, Expression
from semiclip.augment._gan import Network, critic_loss, energy_score, start_at_means, train
from semiclip.augment._mdwgan_gp import smooth

N_GENES, N_GROUPS, N_BATCHES = 16, 4, 2
FAST = {"progress_bar": False, "device": "cpu"}


def simulate(n, seed, *, controls=20):
    """Expression of few factors, of which perturbations shift the mean; the law is the same for every seed."""
    law, rng = np.random.default_rng(7), np.random.default_rng(seed)
    loadings = law.normal(size=(4, N_GENES))
    effects, shifts = 1.5 * law.normal(size=(N_GROUPS, 4)), law.normal(size=(N_BATCHES, N_GENES))
    group, batch = rng.integers(N_GROUPS, size=n), rng.integers(N_BATCHES, size=n)
    group[:controls] = -1
    values = (effects[group] + rng.normal(size=(n, 4))) @ loadings + shifts[batch] + rng.normal(size=(n, N_GENES)) / 2
    return expression(3 + values, group, batch)


def expression(values, group, batch=None, **kwargs):
    batch = np.zeros(len(group), dtype=int) if batch is None else batch
    genes = pd.Index([f"gene{i}" for i in range(values.shape[1])])
    return Expression(values, np.asarray(group), batch, genes, **{"normalize": False, **kwargs})


def small(**kwargs):
    return MDWGANGP(**{"n_epochs": 3, "n_hidden": (16,), "batch_size": 16, **FAST, **kwargs})


def centred_means(values, group):
    means = np.stack([values[group == g].mean(axis=0) for g in range(N_GROUPS)])
    return (means - means.mean(axis=0)).ravel()


def naive_energy_score(real, drawn):
    scores = []
    for i, x in enumerate(real):
        mine = drawn[:, i]
        between = [np.linalg.norm(a - b) for j, a in enumerate(mine) for b in np.delete(mine, j, axis=0)]
        scores.append(np.mean([np.linalg.norm(x - y) for y in mine]) - np.mean(between) / 2)
    return np.mean(scores)


def same_condition(data, new, rng):
    """For each sample with a perturbation in new, a row of data of the same perturbation and batch."""
    code, needed = data.group * N_BATCHES + data.batch, (new.group * N_BATCHES + new.batch)[new.group >= 0]
    code[data.group < 0] = -1
    return np.array([rng.choice(np.flatnonzero(code == which)) for which in needed])


@pytest.fixture(scope="module")
def trained():
    data = simulate(320, 0)
    return data, MDWGANGP(**FAST).fit(data, np.random.default_rng(1))


def test_samples_are_near_new_real_ones_of_their_condition_and_noise_is_not(trained):
    data, augmentation = trained
    new, rng = simulate(320, 1), np.random.default_rng(2)
    trained_on, real = (part.read(np.flatnonzero(part.group >= 0)) for part in (data, new))
    mean, sd = trained_on.mean(axis=0), trained_on.std(axis=0)
    rows = same_condition(data, new, rng)
    drawn = np.stack([augmentation.draw(rows, rng) for _ in range(8)])
    noise = mean + sd * rng.normal(size=drawn.shape)
    ideal = np.stack([data.read(same_condition(data, new, rng)) for _ in range(8)])
    score, worst, best, shuffled = (
        naive_energy_score(real / sd, x / sd) for x in (drawn, noise, ideal, drawn[:, rng.permutation(len(rows))])
    )
    assert score - best < 0.2 * (worst - best)
    assert shuffled - best > 0.8 * (worst - best)


def test_a_sample_is_of_the_perturbation_and_batch_of_its_row(trained):
    data, augmentation = trained
    rows = np.flatnonzero(data.group >= 0)
    group, batch, real = data.group[rows], data.batch[rows], data.read(rows)
    drawn = augmentation.draw(rows, np.random.default_rng(2))
    truth, shuffled = centred_means(real, group), np.random.default_rng(3).permutation(group)
    assert np.corrcoef(centred_means(drawn, group), truth)[0, 1] > 0.9
    assert np.corrcoef(centred_means(drawn, shuffled), truth)[0, 1] < 0.5
    shift = [x[batch == 1].mean(axis=0) - x[batch == 0].mean(axis=0) for x in (real, drawn)]
    assert np.corrcoef(*shift)[0, 1] > 0.8
    # genes go together as they do in truth, and yet no sample is the row itself
    pairs = np.triu_indices(N_GENES, 1)
    assert np.corrcoef(np.corrcoef(drawn.T)[pairs], np.corrcoef(real.T)[pairs])[0, 1] > 0.9
    within = [x - centred_means(x, group).reshape(N_GROUPS, -1)[group] - x.mean(axis=0) for x in (real, drawn)]
    assert abs(np.corrcoef(within[0].ravel(), within[1].ravel())[0, 1]) < 0.3
    assert not np.array_equal(drawn, augmentation.draw(rows, np.random.default_rng(4)))


@pytest.mark.parametrize("n_hidden", [(9,), (8, 7), (6, 5, 7)])
def test_the_loss_is_that_of_naive_autograd(n_hidden):
    torch.manual_seed(0)
    critic, weights = Network(5, 3, [4, 3], n_hidden).double(), torch.tensor([1, 0.1, 0.3]).double()
    real, fake, mix = torch.randn(3, 6, 5).double(), torch.randn(6, 5).double(), torch.rand(3, 6, 1).double()
    codes = torch.stack([torch.arange(6) % 4, torch.arange(6) % 3], dim=1)
    loss = critic_loss(critic, real, fake, codes, mix, weights, 10.0)
    expected = 0
    for head in range(3):
        between = (mix[head] * real[head] + (1 - mix[head]) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(critic(between, codes)[:, head].sum(), between, create_graph=True)
        penalty = ((slope.norm(dim=1) - 1) ** 2).mean()
        distance = critic(fake, codes)[:, head].mean() - critic(real[head], codes)[:, head].mean()
        expected = expected + weights[head] * (distance + 10 * penalty)
    torch.testing.assert_close(loss, expected)
    parameters = list(critic.parameters())
    naive = torch.autograd.grad(expected, parameters, materialize_grads=True)
    torch.testing.assert_close(torch.autograd.grad(loss, parameters, materialize_grads=True), naive)


def test_an_epoch_takes_its_steps_and_a_share_of_rows_gets_noise(monkeypatch):
    generator, critic = Network(3, 6, [2], (4,)), Network(6, 3, [2], (4,))
    seen, taken, step = [], [], torch.optim.RMSprop.step
    monkeypatch.setattr(
        "semiclip.augment._gan.critic_loss", lambda *args: (seen.append(args[1]), critic_loss(*args))[1]
    )
    monkeypatch.setattr(torch.optim.RMSprop, "step", lambda self: (taken.append(self), step(self)))
    real, codes = torch.arange(50.0)[None, :, None].expand(3, 50, 6), torch.zeros(50, 1, dtype=torch.long)
    next(train(generator, critic, real, codes, torch.Generator().manual_seed(0), small(n_critic=3)))
    of_critic = [taker.param_groups[0]["params"][0] is next(critic.parameters()) for taker in taken]
    assert of_critic == [True, True, True, False] * 3
    rows = torch.stack([samples[0, 4:, 0] for samples in seen]).view(3, 3, 12)
    for i in range(3):  # each step of an epoch has samples of its own, in every pass
        assert len(set(rows[:, i].flatten().tolist())) == 36
    noise = torch.stack([samples[0] - samples[0].round() for samples in seen])
    assert (noise != 0).any(dim=2).sum(dim=1).tolist() == [4] * 9
    # rounded away is what is beyond 1/2; a normal variable of sd 1/2 that is wrapped so has this sd
    assert noise[:, :4].std() == pytest.approx(0.286, abs=0.05)


def test_the_score_is_the_naive_energy_score():
    real, drawn = np.random.default_rng(0).normal(size=(6, 4)), np.random.default_rng(1).normal(size=(5, 6, 4))
    score = energy_score(torch.tensor(real), torch.tensor(drawn)).item()
    assert score == pytest.approx(naive_energy_score(real, drawn))


def test_the_same_rng_gives_the_same_bits_and_the_state_of_torch_stays():
    data, rows = simulate(90, 0), np.arange(90)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, second, other = (
        small().fit(data, np.random.default_rng(seed)).draw(rows, np.random.default_rng(5)) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_keeps_the_best_epoch_and_stops_when_patience_ends():
    data, rows = simulate(90, 0), np.arange(90)
    options = {"n_epochs": 25, "lr": 0.02}
    full = small(**options, patience=None).fit(data, np.random.default_rng(2))
    assert len(full.scores_) == 25
    assert full.best_epoch_ == full.scores_.argmin() + 1 < 25
    early = small(**{**options, "n_epochs": int(full.best_epoch_)}).fit(data, np.random.default_rng(2))
    drawn = [x.draw(rows, np.random.default_rng(0)) for x in (full, early)]
    np.testing.assert_array_equal(*drawn)

    patient = small(**options, patience=2).fit(data, np.random.default_rng(2))
    best = 0
    for epoch, score in enumerate(full.scores_):
        best = epoch if score < full.scores_[best] else best
        if epoch - best == 2:
            break
    np.testing.assert_array_equal(patient.scores_, full.scores_[: epoch + 1])
    assert patient.best_epoch_ == best + 1


def test_holds_out_a_share_but_no_last_sample_of_a_condition():
    data = simulate(320, 3)
    rows = np.flatnonzero(data.group >= 0)
    for share, count in ((0.1, 30), (0, 0), (0.99, None)):
        augmentation = small(n_epochs=1, validation_share=share, n_neighbors=2)
        held_out = augmentation.fit(data, np.random.default_rng(0)).held_out_
        kept = np.setdiff1d(rows, held_out)
        assert len(held_out) == (len(rows) - len(kept) if count is None else count)
        assert set(held_out) <= set(rows)
        for codes in (data.group, data.batch):
            assert set(codes[kept]) == set(codes[rows])
    assert len(held_out) > 200


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_keeps_the_last_epoch_where_nothing_is_held_out(share):
    group = np.arange(30) if share else np.zeros(30, dtype=int)
    data = expression(np.random.default_rng(0).normal(size=(30, 4)), group)
    augmentation = small(validation_share=share, patience=1).fit(data, np.random.default_rng(0))
    assert (augmentation.held_out_.size, augmentation.scores_.size, augmentation.best_epoch_) == (0, 0, 3)


def test_counts_are_drawn_non_negative_and_controls_are_as_read():
    group = np.tile([-1, 0, 1], 20)
    rng = np.random.default_rng(0)
    values = rng.poisson(rng.gamma(1, 4, size=(60, 8)))
    values[:, 3] = 0
    data = expression(values, group, normalize=True)
    augmentation = small().fit(data, np.random.default_rng(0))
    rows = np.array([7, 0, 3, 4, 4, 59, 0])
    drawn = augmentation.draw(rows, np.random.default_rng(0))
    assert drawn.dtype == np.float32
    assert (drawn >= 0).all()
    assert (drawn == 0).sum() > 3 * 4  # clipped where the generator was below
    is_control = group[rows] < 0
    np.testing.assert_array_equal(drawn[is_control], data.read(rows[is_control]))
    assert not np.array_equal(drawn[3], drawn[4])
    assert augmentation.draw(np.empty(0, dtype=int), np.random.default_rng(0)).shape == (0, 8)
    alike = expression(sparse.csr_matrix(values), group, normalize=True)
    again = small().fit(alike, np.random.default_rng(0)).draw(rows, np.random.default_rng(0))
    np.testing.assert_allclose(again, drawn, atol=1e-4)


def test_controls_and_units_of_genes_do_not_matter():
    data, rows, rng = simulate(90, 0), np.arange(20, 90), np.random.default_rng
    drawn = small().fit(data, rng(0)).draw(rows, rng(1))
    assert (drawn < 0).any()
    scale = 2.0 ** np.arange(-8, 8)
    scaled = expression(np.where(data.group[:, None] < 0, 99, data.values * scale), data.group, data.batch)
    again = small().fit(scaled, rng(0)).draw(rows, rng(1))
    np.testing.assert_allclose(again, drawn * scale.astype(np.float32), rtol=1e-5)


def test_a_constant_gene_is_drawn_as_it_is():
    values = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    values[:, 2] = 0.1
    augmentation = small().fit(expression(values, np.arange(40) % 2), np.random.default_rng(0))
    drawn = augmentation.draw(np.arange(40), np.random.default_rng(0))
    np.testing.assert_array_equal(drawn[:, 2], values[:, 2])
    assert drawn[:, [0, 1, 3, 4]].std(axis=0).min() > 0


def test_refuses_data(refuses):
    values, group = np.random.default_rng(0).normal(size=(30, 4)), np.zeros(30, dtype=int)
    for options, data, error, about in [
        ({}, (values, group - 1), errors.Empty, {}),
        ({}, (values[:10], group[:10]), errors.BadValue, {"name": "n_neighbors", "value": 10}),
        ({"n_neighbors": 40}, (values, group), errors.BadValue, {"name": "n_neighbors", "value": 40}),
        ({"lr": 1e30}, (values, group), errors.Diverged, {}),
    ]:
        with refuses(error, **about):
            small(**options).fit(expression(*data), np.random.default_rng(0))


REFUSED = {
    **dict.fromkeys(["n_latent", "n_critic", "batch_size", "n_epochs", "patience", "lr"], (0,)),
    **dict.fromkeys(["smooth_weight", "penalty", "noise"], (-1,)),
    "n_hidden": ((), 128, (8, 0)),
    "noise_share": (1.1,),
    **dict.fromkeys(["validation_share", "average"], (1, -0.1)),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in REFUSED.items() for value in values])
def test_refuses_an_option(name, value, refuses):
    with refuses(errors.BadValue, name=name, value=value):
        MDWGANGP(**{name: value})


def test_refuses_an_unknown_start(refuses):
    with refuses(errors.UnknownChoice, name="start", value="zero"):
        MDWGANGP(start="zero")


def test_defaults_are_those_of_the_authors_but_for_how_long_training_takes():
    authors = {"n_latent": 10, "n_hidden": (128, 128), "n_neighbors": 10, "smooth_weight": 0.2, "penalty": 10}
    authors |= {"batch_size": 32, "noise": 0.5, "noise_share": 0.25}
    assert {name: getattr(MDWGANGP(), name) for name in authors} == authors


# ---- what makes training short


@pytest.mark.parametrize("sizes", [[9, 2], [50, 1]])
def test_embeddings_start_at_the_principal_components_of_means(sizes):
    torch.manual_seed(0)
    networks = [Network(3, 6, sizes, (5,)), Network(6, 3, sizes, (5,))]
    before = [table.weight.clone() for table in networks[0].tables]
    # means of rank 3, which the 4 or more dimensions of the first embedding hold
    codes = torch.stack([torch.arange(200) % sizes[0], torch.arange(200) % sizes[1]], dim=1)
    means = torch.randn(sizes[0], 3) @ torch.randn(3, 6)
    start_at_means(networks, means[codes[:, 0]], codes)
    centred = (means - means.mean(dim=0)).double().numpy()
    for network in networks:
        start = network.tables[0].weight.detach().double().numpy()
        # the distances between conditions are those between their means, in another unit
        np.testing.assert_allclose(
            cdist(start, start) / cdist(start, start).mean(), cdist(centred, centred) / cdist(centred, centred).mean(),
            atol=1e-4,
        )  # fmt: skip
        rank = (np.abs(start).max(axis=0) > 0).sum()
        assert np.square(start).sum() / (len(start) * rank) == pytest.approx(1, rel=1e-3)
        if sizes[1] == 1:  # nothing sets a single batch apart from others
            assert network is networks[1] or torch.equal(network.tables[1].weight, before[1])


@pytest.mark.parametrize("average", [0.0, 0.6])
def test_the_average_is_that_of_a_naive_recurrence(average):
    generator, critic = Network(3, 6, [2], (4,)), Network(6, 3, [2], (4,))
    weight = generator.output.weight
    expected, seen, real = weight.detach().clone(), [], torch.randn(1, 48, 6)
    hook = generator.register_forward_pre_hook(lambda *_: seen.append(weight.detach().clone()))
    options = small(average=average, lr=0.05)
    judged = next(train(generator, critic, real, torch.zeros(48, 1, dtype=torch.long), torch.Generator(), options))
    hook.remove()
    after = [*seen[2::2], weight.detach()]  # the generator draws twice in a step
    assert len(after) == 3
    for i, current in enumerate(after, start=1):
        share = max(1 - average, 9 / (i + 10)) if average else 1
        expected = (1 - share) * expected + share * current
    torch.testing.assert_close(judged.output.weight.detach(), expected)
    assert (judged is generator) == (average == 0)


def test_epochs_are_as_many_as_fit_in_the_steps():
    data = expression(np.random.default_rng(0).normal(size=(310, 2)), np.arange(310) % 2)
    for batch_size, n_critic, count in ((31, 1, 46), (31, 3, 46), (2, 1, 3)):  # of the 300 that are not held out
        options = {"n_epochs": None, "batch_size": batch_size, "n_critic": n_critic, "n_hidden": (2,)}
        augmentation = small(**options, validation_share=10 / 310).fit(data, np.random.default_rng(0))
        assert len(augmentation.scores_) == count


# ---- smoothing


def naive(x, k, metric):
    distance, graph = cdist(x, x, metric), np.eye(len(x))
    np.fill_diagonal(distance, np.inf)
    for i, row in enumerate(distance):
        for j in np.argsort(row)[:k]:
            graph[i, j] = graph[j, i] = 1
    root = np.diag(graph.sum(axis=1) ** -0.5)
    return root @ graph @ root @ x


@pytest.mark.parametrize("metric", ["correlation", "euclidean"])
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(3, 40), st.integers(3, 15), st.data())
def test_smoothing_is_the_dense_formula(metric, seed, n, d, data):
    x = np.random.default_rng(seed).normal(size=(n, d)) * 3 + 1
    before, k = x.copy(), data.draw(st.integers(1, n - 1))
    np.testing.assert_allclose(smooth(x, n_neighbors=k, metric=metric), naive(x, k, metric), atol=1e-12)
    np.testing.assert_array_equal(x, before)


def test_a_constant_row_correlates_with_nothing_and_stays(refuses):
    x = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    x[4] = 0.1
    out, others = smooth(x, n_neighbors=7, metric="correlation"), np.delete(np.arange(9), 4)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out[4], x[4])
    np.testing.assert_allclose(out[others], naive(x[others].astype(float), 7, "correlation"), atol=1e-5)
    with refuses(errors.BadValue, name="n_neighbors", value=8):
        smooth(x, n_neighbors=8, metric="correlation")
