import anndata
import numpy as np
import pandas as pd
import pytest

from semiclip.correction import correct
from semiclip.metrics import energy_distance
from semiclip.tl._magnitude import _held_out, magnitude

KEYS = {"perturbation_key": "gene", "control": ["EGFP", "LACZ"], "batch_key": "plate", "progress_bar": False}
SIZES = {"FEW": 4, "FAR": 6, "NEAR": 6, "MUCH": 40} | {f"IDLE{i}": 6 for i in range(5)}


def study(sizes, n_controls, effects, rng, d=8):
    genes = np.repeat([*sizes, "EGFP", "LACZ"], [*sizes.values(), n_controls // 2, n_controls - n_controls // 2])
    plate = rng.integers(0, 2, len(genes))
    x = rng.normal(size=(len(genes), d)) + 4 * plate[:, None]
    x[:, 0] += pd.Series(effects, dtype=float).reindex(genes).fillna(0).to_numpy()
    order = rng.permutation(len(genes))
    obs = pd.DataFrame({"gene": pd.Categorical(genes[order]), "plate": plate[order].astype(str)})
    obs.index = [f"well{i}" for i in range(len(obs))]
    return anndata.AnnData(obs=obs, obsm={"signal": x[order]})


@pytest.fixture
def adata():
    """Perturbations with and without an effect, and two control labels, in two batches that differ by an offset."""
    return study(SIZES, 60, {"FAR": 3, "MUCH": 3}, np.random.default_rng(0))


def corrected(adata, method):
    control = adata.obs["gene"].isin(["EGFP", "LACZ"]).to_numpy()
    x, plate = adata.obsm["signal"], adata.obs["plate"].astype(int).to_numpy()
    return (x if method is None else correct(x, plate, control, method=method)), control


@pytest.mark.parametrize("method", ["tvn", "center", None])
def test_equals_the_steps_by_hand(adata, method):
    # where inactive perturbations are the null, all controls are fitted on and compared with
    null = None if method is None else ["IDLE0"]
    table = magnitude(adata, use_rep="signal", method=method, null=null, n_permutations=5, rng=0, **KEYS)
    assert list(table) == ["metric", "representation", "key", "value", "n_obs", "p_value"]
    assert set(table["metric"]) == {"magnitude"}
    x, control = corrected(adata, method)
    part = table.set_index("key")
    assert list(part.index) == sorted(SIZES)
    for gene, n in SIZES.items():
        expected = energy_distance(x[adata.obs["gene"] == gene], x[control]) if n >= 5 else np.nan
        np.testing.assert_allclose(part.loc[gene, "value"], expected, rtol=1e-12)
        assert part.loc[gene, "n_obs"] == n
        assert np.isnan(part.loc[gene, "p_value"]) == (n < 5 or gene in (null or []))


def half_by_hand(adata, method, seed):
    """Fit on half of each plate's controls; return all rows corrected, and the mask of the other half."""
    control, plate = adata.obs["gene"].isin(["EGFP", "LACZ"]).to_numpy(), adata.obs["plate"].astype(int).to_numpy()
    rng, held = np.random.default_rng(seed), np.zeros(len(control), dtype=bool)
    for code in np.unique(plate):
        rows = np.flatnonzero(control & (plate == code))
        held[rng.permutation(rows)[: len(rows) // 2]] = True
    return correct(adata.obsm["signal"], plate, control & ~held, method=method), held


@pytest.mark.parametrize("method", ["tvn", "center"])
def test_random_sets_are_of_controls_that_the_correction_has_not_seen(adata, method):
    table = magnitude(adata, use_rep="signal", method=method, n_permutations=5, rng=3, **KEYS).set_index("key")
    x, held = half_by_hand(adata, method, 3)
    assert held.sum() in (29, 30)
    for gene in ("FAR", "IDLE0", "MUCH"):
        expected = energy_distance(x[adata.obs["gene"] == gene], x[held])
        assert table.loc[gene, "value"] == pytest.approx(expected, rel=1e-12)


def mocks(rng, n_controls, *, d, spread):
    """Return 20 perturbations that do nothing, of six wells each, in six batches that differ by an offset."""
    batch = np.repeat(np.arange(6), n_controls)
    labels, where = ["control"] * len(batch), [batch]
    for i in range(20):
        where.append(rng.permutation(6) if spread else np.full(6, i % 6))
        labels += [f"mock {i}"] * 6
    batch = np.concatenate(where)
    x = rng.normal(size=(len(batch), d)) + rng.normal(size=(6, d))[batch]
    obs = pd.DataFrame({"gene": labels, "plate": batch.astype(str)}, index=[f"well{i}" for i in range(len(batch))])
    return anndata.AnnData(obs=obs, obsm={"signal": x})


@pytest.mark.parametrize("spread", [True, False], ids=["in all batches", "in one batch each"])
@pytest.mark.parametrize("n_controls", [[20] * 6, [4, 40] * 3], ids=["as many controls", "more in some batches"])
@pytest.mark.parametrize("method", ["tvn", "center"])
def test_what_does_nothing_is_not_significant_too_often(method, n_controls, spread):
    shares = []
    for seed in range(40):
        adata = mocks(np.random.default_rng(seed), n_controls, d=10, spread=spread)
        how = {"perturbation_key": "gene", "control": "control", "batch_key": "plate", "progress_bar": False}
        found = magnitude(adata, use_rep="signal", method=method, n_permutations=99, rng=seed, **how)
        shares.append((found["p_value"] <= 0.05).mean())
    assert np.mean(shares) == pytest.approx(0.05, abs=0.03)  # a standard error of 0.01


@pytest.mark.parametrize(("method", "n_controls", "d"), [("tvn", 400, 40), ("center", 200, 8)])
def test_noise_is_as_often_significant_as_it_should_be(method, n_controls, d):
    shares = []
    for seed in range(12):
        adata = study({f"G{i:02}": 6 for i in range(40)}, n_controls, {}, np.random.default_rng(seed), d=d)
        found = magnitude(adata, use_rep="signal", method=method, n_permutations=100, rng=seed, **KEYS)
        shares.append((found["p_value"] <= 0.05).mean())
    assert np.mean(shares) == pytest.approx(0.05, abs=0.03)


def test_without_controls_of_its_batch_a_perturbation_is_never_significant():
    adata = mocks(np.random.default_rng(0), [2] + [20] * 5, d=4, spread=False)
    adata.obsm["signal"][adata.obs["gene"] == "mock 0"] += 50
    how = {"perturbation_key": "gene", "control": "control", "batch_key": "plate", "progress_bar": False}
    found = magnitude(adata, use_rep="signal", method="center", n_permutations=99, rng=0, **how).set_index("key")
    assert found.loc["mock 0", "p_value"] == 1


@pytest.mark.parametrize(("n", "held"), [(2, 0), (3, 1), (4, 2), (5, 2), (20, 10)])
def test_two_controls_of_each_batch_are_left_to_fit_on(n, held):
    control = np.arange(2 * n + 4) < 2 * n
    batch = np.arange(2 * n + 4) % 2
    if 2 * held < 2:
        with pytest.raises(
            ValueError, match=r"4 control\(s\) are too few to fit .* name inactive perturbations as null="
        ):
            _held_out(batch, control, np.random.default_rng(0))
        return
    marked = _held_out(batch, control, np.random.default_rng(0))
    assert [marked[batch == code].sum() for code in (0, 1)] == [held, held]
    assert not marked[~control].any()


def test_min_obs_says_what_is_measured(adata):
    table = magnitude(adata, use_rep="signal", min_obs=4, n_permutations=5, rng=0, **KEYS)
    assert table["value"].notna().all()
    table = magnitude(adata, use_rep="signal", min_obs=7, n_permutations=5, rng=0, **KEYS)
    assert table.dropna()["key"].tolist() == ["MUCH"]


def test_inactive_perturbations_are_the_null(adata):
    null = [f"IDLE{i}" for i in range(5)]
    table = magnitude(adata, use_rep="signal", null=null, **KEYS).set_index("key")
    values = table.loc[null, "value"]
    assert table.loc[[*null, "FEW"], "p_value"].isna().all()
    for gene in ("NEAR", "FAR", "MUCH"):
        assert table.loc[gene, "p_value"] == (values >= table.loc[gene, "value"]).mean()
    assert table.loc["FAR", "p_value"] == 0


def test_rows_are_exchanged_with_those_of_the_controls(adata):
    table = magnitude(adata, use_rep="signal", n_permutations=200, rng=0, **KEYS).set_index("key")
    assert table.loc["FAR", "p_value"] == table.loc["MUCH", "p_value"] == 1 / 201
    x, held = half_by_hand(adata, "tvn", 0)
    rng, plate = np.random.default_rng(1), adata.obs["plate"].to_numpy()
    for gene in ("NEAR", "IDLE0"):
        own = (adata.obs["gene"] == gene).to_numpy()
        null = []
        for _ in range(500):
            drawn = np.zeros(len(own), dtype=bool)
            for code in ("0", "1"):
                pool = np.flatnonzero((own | held) & (plate == code))
                drawn[rng.choice(pool, (own & (plate == code)).sum(), replace=False)] = True
            null.append(energy_distance(x[drawn], x[(own | held) & ~drawn]))
        share = np.mean(np.array(null) >= table.loc[gene, "value"])
        assert table.loc[gene, "p_value"] == pytest.approx(share, abs=5 * np.sqrt(0.25 / 200 + 0.25 / 500))


def test_a_sample_of_many_rows_is_exchanged(adata):
    how = {"method": "center", "n_permutations": 50, "rng": 0, **KEYS}
    few = magnitude(adata, use_rep="signal", max_controls=20, **how).set_index("key")
    assert few.loc["MUCH", "n_obs"] == 40
    assert few.loc["MUCH", "p_value"] == 1 / 51


def test_a_perturbation_like_the_controls_is_at_least_as_far_in_every_exchange():
    genes = ["A"] * 6 + ["control"] * 12
    obs = pd.DataFrame({"gene": genes}, index=[f"well{i}" for i in range(18)])
    adata = anndata.AnnData(obs=obs, obsm={"signal": np.ones((18, 3)) / 3})
    how = {"perturbation_key": "gene", "control": "control", "method": None, "n_permutations": 9, "progress_bar": False}
    found = magnitude(adata, use_rep="signal", **how)
    assert (found["value"][0], found["p_value"][0]) == (0, 1)


def test_p_values_of_noise_are_uniform_where_controls_abound():
    sizes = {f"G{i:03}": 5 + i % 3 for i in range(300)}
    adata = study(sizes, 800, {}, np.random.default_rng(0), d=4)
    found = magnitude(adata, use_rep="signal", method="center", n_permutations=300, rng=0, **KEYS)
    for alpha in (0.05, 0.5):
        share = (found["p_value"] <= alpha).mean()
        assert share == pytest.approx(alpha, abs=4 * np.sqrt(alpha * (1 - alpha) / 300))


def test_more_rows_than_controls_still_have_a_p_value():
    adata = study({"MANY": 50, "SAME": 50}, 10, {"MANY": 5}, np.random.default_rng(0))
    found = magnitude(adata, use_rep="signal", method="center", n_permutations=99, rng=0, **KEYS).set_index("key")
    assert found.loc["MANY", "p_value"] == 0.01
    assert found.loc["SAME", "p_value"] > 0.5


def test_controls_are_sampled(adata):
    x, control = corrected(adata, None)
    rows = np.sort(np.random.default_rng(5).choice(np.flatnonzero(control), 20, replace=False))
    how = {"method": None, "max_controls": 20, "n_permutations": 5, "rng": 5}
    found = magnitude(adata, use_rep="signal", **how, **KEYS).set_index("key")
    expected = energy_distance(x[adata.obs["gene"] == "FAR"], x[rows])
    assert found.loc["FAR", "value"] == pytest.approx(expected, rel=1e-12)


def test_the_draws_are_determined_by_an_integer(adata):
    adata.obsm["again"] = adata.obsm["signal"]
    how = {"max_controls": 30, "n_permutations": 20, **KEYS}
    table = magnitude(adata, use_rep=["signal", "again"], rng=3, **how)
    first, second = (part.drop(columns="representation") for _, part in table.groupby("representation", sort=False))
    pd.testing.assert_frame_equal(first, second.reset_index(drop=True))
    assert not magnitude(adata, use_rep="signal", rng=4, **how)["value"].equals(first["value"])


def test_nothing_is_changed_and_a_view_does(adata):
    before = adata.copy()
    view = adata[adata.obs["gene"] != "NEAR"]
    found = magnitude(view, use_rep="signal", n_permutations=9, rng=0, **KEYS)
    pd.testing.assert_frame_equal(found, magnitude(view.copy(), use_rep="signal", n_permutations=9, rng=0, **KEYS))
    assert view.is_view
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    np.testing.assert_array_equal(adata.obsm["signal"], before.obsm["signal"])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"control": None}, ValueError, "control=None, but magnitude is a distance to the controls"),
        ({"max_controls": 1}, ValueError, "max_controls=1 must be at least 2, and min_obs=5 at least 1"),
        ({"min_obs": 0}, ValueError, "and min_obs=0 at least 1"),
        ({"min_obs": 50}, ValueError, "no perturbation has 50 rows or more; the largest has 40"),
        ({"n_permutations": 0}, ValueError, "n_permutations=0, but null=None"),
        ({"null": ["FEW"]}, ValueError, r"none of the 1 perturbation\(s\) in null has 5 rows; name others"),
        ({"null": ["absent"]}, ValueError, "null names absent, which no treated row has"),
        ({"use_rep": "X_none"}, KeyError, "use_rep='X_none' is not in obsm"),
        ({"batch_key": "run"}, KeyError, "batch_key='run' is not a column of obs"),
    ],
)
def test_refuses(adata, change, error, message):
    with pytest.raises(error, match=message):
        magnitude(adata, **{"use_rep": "signal", **KEYS, **change})


def test_refuses_a_single_control(adata):
    one = adata[~adata.obs["gene"].isin(["EGFP", "LACZ"]) | (np.cumsum(adata.obs["gene"] == "EGFP") == 1)]
    one = one[(one.obs["gene"] != "LACZ") & ~one.obs["gene"].duplicated() | one.obs["gene"].isin(["FAR"])]
    with pytest.raises(ValueError, match="there is 1 control row, but a distance to the controls needs at least 2"):
        magnitude(one, use_rep="signal", method=None, **KEYS | {"control": "EGFP"})
