import anndata
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgba

import semiclip as scl
from semiclip import errors, pl

KEYS = {"use_rep": "X_pca", "perturbation_key": "gene", "control": "NT", "batch_key": "plate"}
LOOK = {**KEYS, "views": "X_pca_pea", "perturbation": "MYC"}
STEPS = ["as it is", "scale", "whiten", "scale + whiten"]
STEPS += ["centre", *(f"centre + {steps}" for steps in STEPS[1:])]


def study(n_views=40, **options):
    """Four plates of 15 controls and two genes: three samples of MYC on plate q, one on p and one on r."""
    rng = np.random.default_rng(0)
    plate = np.array([*np.repeat(list("pqrs"), 15), *"qqqpr", *"pqrsss"])
    gene = np.array(["NT"] * 60 + ["MYC"] * 5 + ["TP53"] * 6)
    effect = rng.normal(size=6)
    x = rng.normal(size=(71, 6)) @ rng.normal(size=(6, 6)) + np.outer(gene == "MYC", 4 * effect)
    x += 3 * rng.normal(size=(4, 6))[pd.factorize(plate)[0]]
    obs = pd.DataFrame({"gene": gene, "plate": plate}, index=[f"well{i}" for i in range(71)])
    adata = anndata.AnnData(obs=obs, obsm={"X_pca": x})
    scl.pp.pea_correct(adata, **KEYS, stochastic=True, n_views=n_views, rng=0, **options)
    return adata


@pytest.fixture(scope="module")
def studied():
    return study()


@pytest.fixture
def adata(studied):
    return studied.copy()


def dots(panel):
    """Controls, views and samples, as they are drawn."""
    return [np.asarray(collection.get_offsets()) for collection in panel.collections]


def by_hand(adata, centred, scaled, first="q"):
    """The controls and samples of a plate on the plane of a panel, without a fitted step of the package."""
    x, plate, gene = adata.obsm["X_pca"], adata.obs["plate"].to_numpy(), adata.obs["gene"].to_numpy()
    spaces = {}
    for subtract in (False, True):
        spaces[subtract] = x.copy()
        for name in "pqrs":
            controls = x[(plate == name) & (gene == "NT")]
            rows = plate == name
            spaces[subtract][rows] -= controls.mean(axis=0) * subtract
            spaces[subtract][rows] /= controls.std(axis=0) if scaled else 1
    effect = spaces[True][(gene == "MYC") & (plate != first)].mean(axis=0)
    effect /= np.linalg.norm(effect)
    means = np.stack([spaces[False][(plate == name) & (gene == "NT")].mean(axis=0) for name in "pqrs"])
    rest = np.eye(6) - np.outer(effect, effect)
    values, vectors = np.linalg.eigh(rest @ np.cov(means.T) @ rest)
    between = vectors[:, values.argmax()]
    between *= np.sign((means[list("pqrs").index(first)] - means.mean(axis=0)) @ between)
    plane = np.stack([effect, between], axis=1)
    here = spaces[centred] @ plane
    return here[(plate == first) & (gene == "NT")], here[(plate == first) & (gene == "MYC")], plane


@pytest.mark.parametrize("scaled", [0, 1])
@pytest.mark.parametrize("centred", [0, 1])
@pytest.mark.parametrize(("batch", "words"), [(None, "q: 3 samples"), ("p", "p: 1 sample")])
def test_what_is_drawn_where(adata, centred, scaled, batch, words):
    axes = pl.pea_views(adata, **LOOK, batch=batch)
    assert axes.shape == (2, 4)
    assert axes[0, 0].figure.get_suptitle() == f"PEA of MYC in {words} × 40 views"
    controls, samples, plane = by_hand(adata, bool(centred), scaled, first=words[0])
    drawn = dots(axes[centred, scaled])
    np.testing.assert_allclose(drawn[0], controls, atol=1e-6)
    np.testing.assert_allclose(drawn[2], samples, atol=1e-6)
    rows = ((adata.obs["gene"] == "MYC") & (adata.obs["plate"] == words[0])).to_numpy()
    here = adata.obsm["X_pca_pea_steps"][rows].T == centred + 2 * scaled
    views = scl.pp.get_views(adata, "X_pca_pea")[rows].swapaxes(0, 1)[here] @ plane
    np.testing.assert_allclose(drawn[1], views, atol=1e-4)
    numbers = adata.obsm["X_pca_pea_controls"][rows].T[here]
    np.testing.assert_array_equal(axes[centred, scaled].collections[1].get_array(), numbers)


def assert_on_samples(panel):
    _, views, samples = dots(panel)
    assert len(views) > 0
    distance = np.linalg.norm(views[:, None] - samples, axis=2).min(axis=1)
    np.testing.assert_allclose(distance, 0, atol=1e-3)


@pytest.mark.parametrize("options", [{}, {"clip": 1.0}, {"clip": None}, {"ridge": 0.01}, {"ridge": 5.0}])
def test_with_all_controls_views_lie_on_their_samples(options):
    adata = study(pea={"control_law": "all", **options}, n_views=60)
    for panel in pl.pea_views(adata, **LOOK).flat:
        assert_on_samples(panel)
    del adata.uns["semiclip"]  # then the options are the defaults
    axes = pl.pea_views(adata, **LOOK)
    if options in ({}, {"clip": None}):
        assert_on_samples(axes[1, 3])
    else:
        with pytest.raises(AssertionError):
            assert_on_samples(axes[1, 3])


def test_centring_brings_the_batches_together(adata):
    axes = pl.pea_views(adata, **LOOK)
    for panels in axes.T:
        dropped, centred = (np.array([patch.get_center() for patch in panel.patches]) for panel in panels)
        assert len(dropped) == len(centred) == 4
        assert np.ptp(dropped[:, 1]) > 1
        np.testing.assert_allclose(centred, 0, atol=1e-9)
    shape = axes[1, 1].patches[-1]  # scaled controls have unit variance, so their ellipse has about two to each side
    controls = dots(axes[1, 1])[0]
    half = np.sqrt(np.linalg.eigvalsh(np.cov(controls.T, ddof=0)))
    np.testing.assert_allclose(sorted([shape.get_width(), shape.get_height()]), 4 * half, rtol=1e-9)
    assert np.trace(np.cov(controls.T, ddof=0)) < 6


def test_titles_labels_and_units(adata):
    axes = pl.pea_views(adata, **LOOK)
    codes = [0, 2, 4, 6, 1, 3, 5, 7]  # sums of 1 for centre, 2 for scale and 4 for whiten
    for panel, steps, code in zip(axes.flat, STEPS, codes, strict=True):
        percent = 100 * (adata.obsm["X_pca_pea_steps"] == code).mean()
        assert panel.get_title() == f"{steps}\n{'TVN, ' * (code == 7)}{percent:.0f} % of views"
    units = ["embedding units", "control s.d.", "whitened units", "whitened units"]
    assert [panel.get_xlabel() for panel in axes[1]] == [f"Perturbation effect\n({unit})" for unit in units]
    rows = ["Between batches\n(centre dropped)", "Between batches\n(centred)"]
    assert [panel.get_ylabel() for panel in axes[:, 0]] == rows
    figure = axes[0, 0].figure
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["controls (± 2 s.d.)", "controls of other batches", "views", "the same steps, all controls"]
    assert figure.axes[-1].get_ylabel() == "Controls drawn"


def test_a_single_batch_says_that_it_looks_along_its_own_samples(adata):
    scl.pp.pea_correct(adata, **KEYS | {"batch_key": None}, stochastic=True, rng=0)
    axes = pl.pea_views(adata, **LOOK | {"batch_key": None})
    assert axes[1, 0].get_xlabel() == "Effect on these samples\n(embedding units)"
    assert axes[1, 0].get_ylabel() == "Along the controls\n(centred)"
    assert axes[0, 0].figure.get_suptitle() == "PEA of MYC: 5 samples × 1 view"
    assert {len(panel.patches) for panel in axes.flat} <= {0, 1}
    samples = dots(axes[1, 0])[2]
    np.testing.assert_allclose(samples[:, 1].mean(), 0, atol=1e-9)  # all of the mean is along the first direction


def test_a_perturbation_of_one_batch_among_several(adata):
    adata.obs.loc[["well63", "well64"], "gene"] = "TP53"
    axes = pl.pea_views(adata, **LOOK)
    labels = (axes[1, 0].get_xlabel(), axes[1, 0].get_ylabel())
    assert labels == ("Effect on these samples\n(embedding units)", "Between batches\n(centred)")
    assert len(axes[0, 0].patches) == 4


def test_steps_that_are_never_drawn():
    axes = pl.pea_views(study(pea={"methods": ["center_scale"], "drop_probability": 0}, n_views=3), **LOOK)
    for panel, steps in zip(axes.flat, STEPS, strict=True):
        drawn = steps == "centre + scale"
        assert panel.get_title().endswith("100 % of views") == drawn
        assert ("never drawn" in [text.get_text() for text in panel.texts]) != drawn
        assert bool(panel.collections) == drawn


def test_without_controls_all_rows_are_the_reference_and_a_single_view(adata):
    assert len(dots(pl.pea_views(adata, **LOOK | {"control": None})[0, 0])[0]) == 19
    scl.pp.pea_correct(adata, **KEYS, stochastic=True, rng=0, key_added="X_one")
    axes = pl.pea_views(adata, **LOOK | {"views": "X_one"})
    assert sum(len(dots(panel)[1]) for panel in axes.flat if panel.collections) == 3


def test_far_views_are_counted(adata):
    adata.obsm["X_pca_pea"][60:63, :6] += 1e4
    axes = pl.pea_views(adata, **LOOK)
    n_far = 0
    for panels in axes.T:
        assert panels[0].get_xlim() == panels[1].get_xlim()
        for panel in panels:
            views = dots(panel)[1]
            low, high = np.transpose([panel.get_xlim(), panel.get_ylim()])
            far = ((views < low) | (views > high)).any(axis=1).sum()
            assert [text.get_text() for text in panel.texts] == [f"{far} beyond"] * bool(far)
            n_far += int(far)
            others = np.concatenate([dots(panel)[2], [patch.get_center() for patch in panel.patches]])
            assert ((low < others) & (others < high)).all()
    assert n_far >= 3


@pytest.mark.parametrize("layout", ["constrained", None])
def test_draws_on_given_axes_and_changes_nothing(adata, layout):
    before = adata.copy()
    figure, panels = plt.subplots(2, 4, figsize=(9, 5), layout=layout)
    assert (pl.pea_views(adata, **LOOK, ax=panels.ravel()) == panels).all()
    assert plt.get_fignums() == [figure.number]
    assert figure.get_suptitle() == ""
    assert len(figure.legends) == (layout == "constrained")
    assert (panels[0, 0].get_legend() is None) == (layout == "constrained")
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    assert list(adata.obsm) == list(before.obsm)
    np.testing.assert_array_equal(adata.obsm["X_pca_pea"], before.obsm["X_pca_pea"])


def test_nothing_is_cut_or_hidden(adata, assert_legible):
    axes = pl.pea_views(adata, **LOOK)
    for panel in axes.flat:
        assert_legible(panel)
    figure = axes[0, 0].figure
    for part in (figure.legends[0], figure.axes[8].yaxis.label):
        assert figure.bbox.padded(1).count_contains(part.get_window_extent().corners()) == 4
    for row in axes:
        titles = [panel.title.get_window_extent() for panel in row]
        assert all(left.x1 < right.x0 for left, right in zip(titles[:-1], titles[1:], strict=True))


def test_colours(adata):
    panel = pl.pea_views(adata, **LOOK)[1, 1]
    controls, views, samples = panel.collections
    panel.figure.canvas.draw()
    few, many = np.argsort(views.get_array())[[0, -1]]
    light, dark = (views.get_facecolors()[i][:3].mean() for i in (few, many))
    assert light > dark + 0.2  # told apart in grey too
    assert (controls.get_facecolors()[0][:3] == 0.5).all()
    np.testing.assert_allclose(samples.get_edgecolors()[0], to_rgba("#D55E00"))


@pytest.mark.parametrize(
    ("change", "error", "data"),
    [
        ({"use_rep": "X_none"}, errors.MissingEntry, {"key": "X_none", "name": "use_rep"}),
        ({"views": "X_none"}, errors.MissingEntry, {"key": "X_none", "name": "views"}),
        ({"views": "X_steps"}, errors.MissingEntry, {"key": "X_steps", "name": "views"}),
        ({"views": "X_pca"}, errors.MissingEntry, {"key": "X_pca", "name": "views"}),
        ({"perturbation_key": "guide"}, errors.MissingColumn, {"key": "guide", "name": "perturbation_key"}),
        ({"perturbation": "EGFR"}, errors.UnknownChoice, {"value": "EGFR", "choices": ["TP53", "MYC"]}),
        ({"perturbation": "NT"}, errors.BadValue, {"name": "perturbation", "value": "NT"}),
        ({"control": "DMSO"}, errors.UnknownControl, {"labels": ["DMSO"], "perturbation_key": "gene"}),
        ({"batch": "s"}, errors.UnknownChoice, {"value": "s", "choices": ["q", "p", "r"]}),
        ({"batch": 7}, errors.UnknownChoice, {"name": "batch", "value": 7}),
        ({"batch_key": "run"}, errors.MissingColumn, {"key": "run", "name": "batch_key"}),
        ({"ax": [1, 2]}, errors.WrongShape, {"where": "ax", "shape": (2,)}),
        ({"use_rep": "X_line"}, errors.WrongShape, {"shape": (71, 1)}),
    ],
)
def test_refuses(adata, change, error, data, refuses):
    adata.obsm["X_line"], adata.obsm["X_steps"] = adata.obsm["X_pca"][:, :1], adata.obsm["X_pca"]
    adata.obs["X_steps_steps"] = "none"  # but not how many controls were drawn
    with refuses(error, **data):
        pl.pea_views(adata, **LOOK | change)
