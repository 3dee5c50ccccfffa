from __future__ import annotations

import itertools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.container import ErrorbarContainer

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

matplotlib.use("Agg")

RUNGS = ["base", "+ fixed augmentation", "+ TVN at inference", "+ step dropping", "+ control sampling"]
SETTINGS = {
    "lr": [0.001, 0.003, 0.01, 0.03, 0.1, 0.3],
    "temperature": [0.05, 0.1, 0.2, 0.4],
    "batch_size": [2048, 1024, 512, 256, 128, 64],  # not in order
    "epochs": [10, 20, 40, 60, 100, 150],
}
LOWS = np.array([0.2, 0.05, 0.1])  # thresholds, not in order
GENE_SETS = [
    "HALLMARK_TNFA_SIGNALING_VIA_NFKB",
    "Cell Cycle",
    "Respiratory electron transport, ATP synthesis by chemiosmotic coupling, and heat production by uncouplers",
]
DECODERS = {
    "X_scvi": (0.6, 0.4),
    "X_semiclip": (0.7, 0.3),
    "random": (0.48, -0.1),
    "constant": (0.5, 0),
    "PCA": (1, 0.5),
}


def ablation_table(n_seeds: int = 15, n_rungs: int = 5) -> pd.DataFrame:
    rng, rise = np.random.default_rng(0), [0.50, 0.52, 0.58, 0.57, 0.62]
    luck = rng.normal(0, 0.03, n_seeds)
    runs = [luck + rise[i] + rng.normal(0, 0.01, n_seeds) for i in range(n_rungs)]
    index = pd.MultiIndex.from_product([RUNGS[:n_rungs], range(n_seeds)], names=["rung", "seed"])
    columns = {"recall": np.concatenate(runs), "unimodal": np.tile(0.35 + luck, n_rungs)}
    return pd.DataFrame(columns, index=index).reset_index()


def sweep_table(settings: dict[str, list[Any]] = SETTINGS, n_seeds: int = 5) -> pd.DataFrame:
    rows = [(name, setting, seed) for name, values in settings.items() for setting in values for seed in range(n_seeds)]
    table = pd.DataFrame(rows, columns=["parameter", "setting", "seed"])
    return table.assign(recall=np.random.default_rng(0).normal(0.5, 0.03, len(table)))


def recall_table() -> pd.DataFrame:
    rng, names = np.random.default_rng(0), ["representation", "key"]
    index = pd.MultiIndex.from_product([["X_scvi", "X_semiclip"], ["CORUM", "SIGNOR", "mean"]], names=names)
    value = rng.uniform(0.1, 0.4, 6)
    interval = {"ci_low": value - rng.uniform(0.01, 0.03, 6), "ci_high": value + rng.uniform(0.02, 0.05, 6)}
    rest = {"threshold_low": 0.05, "threshold_high": 0.95, "n_pairs": 400, "chance": 0.1}
    return pd.DataFrame({"metric": "relationship_recall", "value": value} | interval | rest, index=index).reset_index()


def recall_curve_table() -> pd.DataFrame:
    levels = [["X_scvi", "X_semiclip"], ["CORUM", "mean"], LOWS]
    index = pd.MultiIndex.from_product(levels, names=["representation", "key", "threshold_low"])
    table = index.to_frame(index=False)
    value = 2 * table["threshold_low"] + np.random.default_rng(0).uniform(0, 0.2, 12)
    table = table.assign(threshold_high=1 - table["threshold_low"], value=value, n_pairs=300)
    return table.assign(ci_low=value - 0.02, ci_high=value + 0.05)


def null_overlap_table() -> pd.DataFrame:
    parts = []
    for i, reference in enumerate(["X_scvi", "X_image"]):
        null = 800 * LOWS**2
        columns = {"overlap": 200 * LOWS + 20 * i, "null_low": null * 0.7, "null_median": null, "null_high": null * 1.4}
        thresholds = {"threshold_low": LOWS, "threshold_high": 1 - LOWS, "n_recalled": 600 * LOWS}
        p = {"reference": reference, "p_value": [0.01, 0.2 * (1 - i), 0.03]}
        parts.append(pd.DataFrame(p | columns | thresholds))
    return pd.concat(parts, ignore_index=True).assign(representation="X_semiclip", n_reference=70)


def enrichment_table() -> pd.DataFrame:
    names, p = GENE_SETS + [f"gene set {i}" for i in range(9)], np.logspace(-5, -0.2, 12)
    counts = {"n_overlap": np.arange(12, 0, -1), "n_set": np.arange(40, 28, -1)}
    return pd.DataFrame({"gene_set": names, "p_value": p, "p_adjusted": np.minimum(1, 4 * p)} | counts)


def gene_attribution_table() -> pd.DataFrame:
    values = np.random.default_rng(0).normal(size=12)
    return pd.DataFrame(
        {"gene": [f"GENE{i}" for i in range(12)], "attribution": values, "direction": ["up", "down"] * 6}
    )


def gains_losses_table() -> pd.DataFrame:
    """The counts that the paper prints for Figure 5, against 61 pairs."""
    counts = {"preserved": [52, 44, 40], "gains": [29, 33, 42], "losses": [9, 17, 21]}
    return pd.DataFrame({"representation": ["Semi-Clipped", "KD", "VICReg"], "base": "X_scvi"} | counts)


def preservation_table(luck: float = 0.0) -> pd.DataFrame:
    rows = []
    for key, better in (("seen perturbations", 0.05), ("unseen perturbations", 0)):
        for name, (integrity, spearman) in DECODERS.items():
            parts = (integrity + better - luck, spearman + better + 3 * luck)
            values = {"structural_integrity": parts[0], "spearman_gene": parts[1], "spearman_sample": 0.9}
            values |= {"preservation": 50 * sum(parts)}
            rows += [(metric, name, key, value) for metric, value in values.items()]
    return pd.DataFrame(rows, columns=["metric", "representation", "key", "value"])


def similarity_table() -> pd.DataFrame:
    rng, edges, parts = np.random.default_rng(0), np.linspace(-1, 1, 41), []
    for name in ("X_scvi", "X_semiclip"):
        everything, annotated = np.tanh(rng.normal(0, 0.3, 2000)), np.tanh(rng.normal(0.2, 0.4, 150))
        counts = {"n_all": np.histogram(everything, edges)[0], "n_annotated": np.histogram(annotated, edges)[0]}
        part = pd.DataFrame({"representation": name, "low": edges[:-1], "high": edges[1:]} | counts)
        cuts = np.quantile(everything, [0.05, 0.95])
        densities = {"all": part["n_all"] / 2000 / 0.05, "annotated": part["n_annotated"] / 150 / 0.05}
        parts.append(part.assign(**densities, cut_low=cuts[0], cut_high=cuts[1]))
    return pd.concat(parts, ignore_index=True)


def zscores_table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    figures = [("relationship_recall", "mean"), ("preservation", "unseen perturbations")]
    rows = [
        (metric, key, dataset, method, rng.normal(), rng.uniform(0.1, 0.3), 5)
        for dataset in ("HUVEC-KO", "LINCS")
        for metric, key in figures
        for method in ("X_scvi", "X_kd", "X_shake", "X_semiclip")
    ]
    return pd.DataFrame(rows, columns=["metric", "key", "dataset", "representation", "mean", "sd", "n_seeds"])


def relationship_network_table() -> pd.DataFrame:
    recalled = {"X_semiclip": [True, True, True, True, False], "X_scvi": [False, False, True, False, True]}
    databases = ["CORUM", "CORUM;SIGNOR", "SIGNOR", "SIGNOR", "StringDB"]
    return pd.DataFrame({"gene_a": list("ABCEG"), "gene_b": list("BCDFH"), "databases": databases} | recalled)


@pytest.fixture(scope="session")
def make() -> Callable[..., pd.DataFrame]:
    """Make the table that a picture draws, by the name of the picture."""
    return lambda name, *args, **options: globals()[f"{name}_table"](*args, **options)


@pytest.fixture(scope="session")
def decoders() -> dict[str, tuple[float, float]]:
    """Structural integrity and Spearman correlation of decoders."""
    return DECODERS


@pytest.fixture
def refuses(refuses):
    """Expect an error, and that nothing is drawn before it."""
    from matplotlib import pyplot as plt

    @contextmanager
    def refuse(error, **data):
        before = plt.get_fignums()
        with refuses(error, **data):
            yield
        assert plt.get_fignums() == before

    return refuse


@pytest.fixture
def table(request, make) -> pd.DataFrame:
    """The table of the picture that a file of tests is named after."""
    return make(request.path.stem.removeprefix("test_"))


@pytest.fixture(scope="session")
def errorbars() -> Callable[[Axes], list[ErrorbarContainer]]:
    """Return the means with error bars that axes show."""
    return lambda ax: [container for container in ax.containers if isinstance(container, ErrorbarContainer)]


@pytest.fixture(scope="session")
def shades() -> tuple[str, ...]:
    """Colours of Okabe and Ito, in the order in which pictures take them."""
    return ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")


@pytest.fixture(scope="session")
def legend() -> Callable[[Axes], list[str]]:
    """Read the legend of axes."""
    return lambda ax: [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.fixture(autouse=True)
def _pictures():
    """Check that drawing leaves matplotlib's settings alone, and close what was drawn."""
    from matplotlib import pyplot as plt

    before = matplotlib.rcParams.copy()
    yield
    plt.close("all")
    assert matplotlib.rcParams == before


@pytest.fixture(scope="session")
def assert_legible() -> Callable[[Axes], None]:
    """Check that every text of axes and their insets lies within the figure, and that no two cover each other."""

    def check(ax: Axes) -> None:
        figure = ax.get_figure(root=True)
        figure.canvas.draw()
        texts = []
        for part in (ax, *ax.child_axes):
            texts += part.texts
            if part.axison:
                for axis, limits in ((part.xaxis, part.get_xlim()), (part.yaxis, part.get_ylim())):
                    low, high = sorted(limits)
                    ticks = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
                    texts += [label for at, label in ticks if low <= at <= high]
                    texts.append(axis.label)
            texts += [part.title, *(part.get_legend().get_texts() if part.get_legend() else [])]
        boxes = {text: text.get_window_extent() for text in texts if text.get_text() and text.get_visible()}
        assert len(boxes) > 3
        for text, box in boxes.items():
            assert min(box.x0, box.y0) >= -0.5, text
            assert box.x1 <= figure.bbox.width + 0.5, text
            assert box.y1 <= figure.bbox.height + 0.5, text
        level = {text: box for text, box in boxes.items() if not text.get_rotation() % 90}
        for (one, box), (other, second) in itertools.combinations(level.items(), 2):
            assert not box.padded(-1).overlaps(second.padded(-1)), (one, other)

    return check


@pytest.fixture(scope="session")
def assert_apart() -> Callable[..., None]:
    """Check that no two of these things cover each other."""

    def check(artists: list[Any]) -> None:
        boxes = [artist.get_window_extent().padded(-1) for artist in artists]
        for one, other in itertools.combinations(range(len(boxes)), 2):
            assert not boxes[one].overlaps(boxes[other]), (artists[one], artists[other])

    return check
