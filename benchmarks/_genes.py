"""The real genetic pairing as a task: genes to learn from, and unseen genes to judge on."""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.model_selection import ShuffleSplit
from sklearn.preprocessing import StandardScaler

import semiclip as scl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anndata import AnnData
    from mudata import MuData

WIDTHS = (20, 60, 200)  # of the student, leading principal components of expression
CHOSEN: dict[Any, dict[str, Any]] = {}  # settings of each task and arm, since several arms share them


class Task(NamedTuple):
    """Genes to learn from, and unseen genes to judge on; the first of these have images that were held out."""

    train: MuData
    unseen: AnnData
    images: np.ndarray
    key: tuple[int, bool] | None = None
    """Split and whether pairs are permuted; none of an inner split."""

    @property
    def taught(self) -> np.ndarray:
        """Images of the training genes, in the order of their expression."""
        image = self.train["image"]
        place = pd.Index(image.obs["perturbation"]).get_indexer(self.train["rna"].obs["perturbation"])
        return image.obsm["X_image"][place]

    def inner(self, splitter: Any) -> Iterator[Task]:
        """Split the training genes once more."""
        rna, images = self.train["rna"], self.taught
        for fit, judge in splitter.split(images):
            yield Task(join(rna[fit], images[fit]), rna[judge].copy(), images[judge])


class Outcome(NamedTuple):
    """What an arm makes: an embedding of training and of unseen genes, and what is compared across modalities."""

    train: np.ndarray
    unseen: np.ndarray
    query: np.ndarray | None = None
    candidates: np.ndarray | None = None
    choice: dict[str, Any] = {}

    @property
    def rank(self) -> float:
        """Mean rank percentile of the own image."""
        if self.query is None:
            return np.nan
        return scl.metrics.retrieval(self.query, self.candidates, np.arange(len(self.query)))["mean_rank_percentile"]


@lru_cache(maxsize=1)
def read() -> tuple[AnnData, pd.Index, np.ndarray, pd.DataFrame]:
    """Return expression, the genes with an image and their images, and the relationships."""
    scl.settings.verbosity = "error"
    mdata = scl.datasets.rpe1_periscope()
    rna, image = mdata["rna"].copy(), mdata["image"]
    leading = PCA(max(WIDTHS), svd_solver="full").fit_transform(StandardScaler().fit_transform(rna.X))
    for width in WIDTHS:
        rna.obsm[name_of(width)] = leading[:, :width].astype(np.float32)
    paired = rna.obs_names[rna.obs_names.isin(image.obs_names)]
    return rna, paired, image[paired].obsm["X_image"], scl.datasets.relationships()


def make_task(split: int, *, permuted: bool) -> Task:
    """Hold out a quarter of the paired genes."""
    rna, paired, images, _ = read()
    (train, test), *_ = ShuffleSplit(1, test_size=0.25, random_state=split).split(paired)
    order = np.random.default_rng(split).permutation(train) if permuted else train
    alone = rna.obs_names.difference(paired, sort=False)
    return Task(
        join(rna[paired[train]], images[order]), rna[[*paired[test], *alone]].copy(), images[test], (split, permuted)
    )


def join(rna: AnnData, images: np.ndarray) -> MuData:
    """Make a pair of modalities from expression and the image of each row."""
    from anndata import AnnData
    from mudata import MuData

    image = AnnData(images, obs=rna.obs[["perturbation"]].copy(), obsm={"X_image": images})
    return MuData({"rna": rna.copy(), "image": image})


def name_of(width: int) -> str:
    return f"X_pca{width}"


def choose(task: Task, arm: Callable[..., Outcome], **grid: tuple[Any, ...]) -> dict[str, Any]:
    """Return the setting whose held-out genes find their images best, on three inner splits of the training genes."""
    name = task.key, arm, str(grid)
    if name not in CHOSEN:
        settings = list_settings(grid)
        tasks = list(task.inner(ShuffleSplit(3, test_size=0.25, random_state=0)))
        ranks = [np.mean([arm(inner, **setting).rank for inner in tasks]) for setting in settings]
        CHOSEN[name] = settings[int(np.argmin(ranks))]
    return CHOSEN[name]


def list_settings(grid: dict[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Return every combination."""
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
