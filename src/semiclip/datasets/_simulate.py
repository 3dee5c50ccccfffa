from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pandas as pd

from semiclip._arguments import check_choice, check_number, check_whole
from semiclip._mudata import make_mudata
from semiclip.datasets._assemble import make_adata
from semiclip.errors import BadValue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData

N_PRIVATE = 10  # dimensions of the variation that each modality keeps to itself
N_STATES = 6  # dimensions of the cells' state, which has nothing to do with the perturbation
N_PROGRAMS = 5  # gene programs by which batches differ, such as stress or ambient RNA
LIBRARY_SIZE, LIBRARY_SD, INVERSE_DISPERSION = 2000.0, 0.3, 5.0


class Study(NamedTuple):
    """A simulated weakly paired study and its truth, as :func:`simulate` returns it."""

    mdata: MuData
    """Compounds at several doses for training, as ``rna`` (counts) and ``image`` (``obsm["X_image"]``)."""
    knockouts: MuData
    """Unseen gene knockouts in new batches, with the same two modalities; ``obs["pathway"]`` is the truth."""
    relationships: pd.DataFrame
    """Pairs of knocked-out genes that share a pathway, with columns ``database``, ``gene_a``, ``gene_b``."""


# activity of a pathway, expression changes that the images do not show, noise of an image embedding
DIFFICULTIES = {"easy": (3.4, 0.8, 2.4), "medium": (3.0, 1.0, 3.2), "hard": (2.6, 1.2, 4.0)}


def simulate(
    *,
    n_compounds: int = 300,
    doses: Sequence[float] = (0.1, 1.0, 10.0),
    n_knockouts: int = 150,
    n_pathways: int = 30,
    n_genes: int = 600,
    n_image_features: int = 128,
    n_batches: int = 6,
    n_knockout_batches: int = 6,
    n_controls: int = 32,
    difficulty: Literal["easy", "medium", "hard"] = "medium",
    rng: int | np.random.Generator | None = None,
) -> Study:
    r"""Simulate a weakly paired study with known truth.

    Each perturbation :math:`p` moves pathways by :math:`a_p \in \mathbb{R}^P`, which both modalities show, and has
    effects of its own in each: :math:`f_p, g_p \sim N(0, I)`.

    * A compound moves one to three random pathways, each by :math:`s\,(\pm 1 + 0.5\,\epsilon)`; dose :math:`c`
      multiplies :math:`a_p, f_p, g_p` by :math:`c / (c + e_p)` with :math:`\log e_p \sim N(0, 1)`.
    * A knockout moves every pathway by :math:`0.1\,\epsilon` and one of them by :math:`s\,U(0.5, 1.5)` more.
      Knockouts of one pathway are the known relationships.
    * Counts: :math:`x_{ij} \sim \mathrm{NB}(\ell_i\,\mathrm{softmax}_j(\eta_i), \theta)`,
      :math:`\eta_i = \beta + \sigma_b (L^\top a_p + v\,M^\top f_p + 0.5\,K^\top u_i) + \delta_b`, where
      :math:`\beta \sim N(0, 1)`, sparse standard normal loadings :math:`L` (10 % of the genes), :math:`M` and
      :math:`K` (20 %), :math:`Q` (30 %), cell state :math:`u_i \sim N(0, I)`, library size
      :math:`\log \ell_i \sim N(\log 2000, 0.3^2)` and inverse dispersion :math:`\theta = 5`.
    * Image embeddings: :math:`t_i = \sigma_b (V^\top a_p + 0.5\,U^\top g_p + \tau\,\epsilon) + \delta_b` with standard
      normal :math:`V`, :math:`U`.
    * Batches: scale :math:`\log \sigma_b \sim N(0, 0.2^2)`; offset :math:`\delta_b = 0.5\,\epsilon + Q^\top q_b` for
      expression, where :math:`q_b \sim N(0, I)` is the activity of five gene programs that all batches share, such
      as stress or ambient RNA; :math:`\delta_b \sim N(0, 2^2)` for images. Modalities never share a batch, nor
      do compounds and knockouts. Every batch has controls, for which :math:`a = f = g = 0`.

    Difficulty sets :math:`(s, v, \tau)`: easy (3.4, 0.8, 2.4), medium (3, 1, 3.2), hard (2.6, 1.2, 4). There are 4
    expression and 3 image samples of each compound and dose, and 6 of each knockout.

    Parameters
    ----------
    n_compounds, doses
        Training perturbations; each compound is given at each dose (µM).
    n_knockouts, n_pathways
        Knocked-out genes, spread evenly over the pathways.
    n_genes, n_image_features
        Variables of the two modalities.
    n_batches, n_knockout_batches, n_controls
        Batches of each modality, and control samples in each.
    difficulty
        ``"easy"``, ``"medium"`` or ``"hard"``: how well the known relationships can be seen.
    rng
        Seed or generator; ``None`` draws another study each time.

    Returns
    -------
    The study. ``obs`` has ``perturbation`` (``"control"`` for controls), ``dose`` (µM, 0 for controls and knockouts),
    ``batch`` and, for knockouts, ``pathway``.

    Examples
    --------
    >>> study = simulate(n_compounds=20, n_knockouts=24, n_pathways=6, n_genes=50, n_image_features=8)
    >>> study.mdata["rna"].n_obs, study.mdata["image"].obsm["X_image"].shape[1], len(study.relationships)
    (432, 8, 36)
    """
    check_whole("n_pathways", n_pathways, 3)
    check_whole("n_knockouts", n_knockouts, 2 * n_pathways)  # a relationship takes two knockouts of a pathway
    check_whole("n_genes", n_genes, n_knockouts)
    check_whole("n_controls", n_controls, 2)  # a batch correction takes two controls
    sizes = {"n_compounds": n_compounds, "n_image_features": n_image_features, "n_batches": n_batches}
    for name, value in (sizes | {"n_knockout_batches": n_knockout_batches}).items():
        check_whole(name, value)
    if not len(doses):
        raise BadValue("doses", doses, "one or more positive numbers")
    for dose in doses:
        check_number("doses", dose, above=0)
    check_choice("difficulty", difficulty, DIFFICULTIES)
    rng = np.random.default_rng(rng)
    strength, *hidden = DIFFICULTIES[difficulty]
    world = _World(rng, n_pathways, n_genes, n_image_features, *hidden)

    compounds = _name("compound", n_compounds)
    response = np.asarray(doses) / (np.asarray(doses) + np.exp(rng.normal(size=(n_compounds, 1))))
    size = (n_compounds, n_pathways)
    moved = rng.random(size).argsort(axis=1) < rng.integers(1, 4, (n_compounds, 1))
    activity = strength * moved * (rng.choice([-1.0, 1.0], size) + 0.5 * rng.normal(size=size))
    treated = pd.DataFrame({"perturbation": np.repeat(compounds, len(doses)), "dose": np.tile(doses, n_compounds)})
    mdata = world.measure("", treated, activity, response, n_batches, n_controls, (4, 3))

    pathway = np.arange(n_knockouts) % n_pathways
    genes = _name("gene", n_genes)[:n_knockouts]
    activity = 0.1 * rng.normal(size=(n_knockouts, n_pathways))
    activity[np.arange(n_knockouts), pathway] += strength * rng.uniform(0.5, 1.5, n_knockouts)
    treated = pd.DataFrame({"perturbation": genes, "dose": 0.0, "pathway": _name("pathway", n_pathways)[pathway]})
    response = np.ones((n_knockouts, 1))
    knockouts = world.measure("ko_", treated, activity, response, n_knockout_batches, n_controls, (6, 6))
    first, second = np.nonzero(np.triu(pathway[:, None] == pathway, 1))
    pairs = pd.DataFrame({"database": "pathways", "gene_a": genes[first], "gene_b": genes[second]})
    return Study(mdata, knockouts, pairs)


def _name(stem: str, n: int) -> np.ndarray:
    return np.array([f"{stem}_{i:0{len(str(n - 1))}d}" for i in range(n)])


def _respond(effects: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Multiply each perturbation's effects, shape (n, k), by its response to each dose, shape (n, d): (n·d, k)."""
    return (effects[:, None, :] * response[:, :, None]).reshape(-1, effects.shape[1])


def _draw_samples(
    rng: np.random.Generator, treated: pd.DataFrame, stem: str, n_batches: int, n_replicates: int, n_controls: int
) -> pd.DataFrame:
    """Give every sample a batch; column ``effect`` is its row of the effects, -1 for controls."""
    effect = np.tile(np.arange(len(treated)), n_replicates)
    samples = treated.iloc[effect].assign(effect=effect, batch=rng.permutation(np.arange(len(effect)) % n_batches))
    constant = {"perturbation": "control", "dose": 0.0, "pathway": "none", "effect": -1}
    controls = pd.DataFrame({**constant, "batch": np.repeat(np.arange(n_batches), n_controls)})
    samples = pd.concat([samples, controls[list(samples)]], ignore_index=True)
    return samples.assign(batch_name=_name(f"{stem}_batch", n_batches)[samples["batch"]])


class _World:
    """The loadings that compounds and knockouts share: one biology, measured twice."""

    def __init__(
        self, rng: np.random.Generator, n_pathways: int, n_genes: int, n_features: int, private: float, noise: float
    ) -> None:
        # counting has a stream of its own: how much of it is used depends on the rates, and nothing else shall
        self.rng, self.counting, self.private, self.noise = rng, rng.spawn(1)[0], private, noise
        self.base = rng.normal(size=n_genes)
        self.pathway_genes, self.private_genes, self.state_genes, self.batch_genes = (
            rng.normal(size=(k, n_genes)) * (rng.random((k, n_genes)) < density)
            for k, density in ((n_pathways, 0.1), (N_PRIVATE, 0.2), (N_STATES, 0.2), (N_PROGRAMS, 0.3))
        )
        self.pathway_features = rng.normal(size=(n_pathways, n_features))
        self.private_features = rng.normal(size=(N_PRIVATE, n_features))

    def measure(
        self,
        prefix: str,
        treated: pd.DataFrame,
        activity: np.ndarray,
        response: np.ndarray,
        n_batches: int,
        n_controls: int,
        n_replicates: tuple[int, int],
    ) -> MuData:
        """Measure in both modalities what has an activity, shape (n, pathways), and a response, (n, doses)."""
        private = [_respond(self.rng.normal(size=(len(activity), N_PRIVATE)), response) for _ in range(2)]
        activity = _respond(activity, response)
        modalities = {}
        for i, (name, measure) in enumerate({"rna": self._express, "image": self._image}.items()):
            stem = f"{prefix}{name}"
            samples = _draw_samples(self.rng, treated, stem, n_batches, n_replicates[i], n_controls)
            modalities[name] = measure(stem, samples, activity, private[i])
        return make_mudata(**modalities)

    def _express(self, stem: str, samples: pd.DataFrame, activity: np.ndarray, private: np.ndarray) -> AnnData:
        rng, n = self.rng, len(samples)
        effects = activity @ self.pathway_genes + self.private * private @ self.private_genes
        change = _effects_of(samples, effects) + 0.5 * rng.normal(size=(n, N_STATES)) @ self.state_genes
        programs = rng.normal(size=(samples["batch"].max() + 1, N_PROGRAMS)) @ self.batch_genes
        logits = self.base + self._shift_batches(samples, change, 0.5) + programs[samples["batch"]]
        rate = np.exp(logits - logits.max(axis=1, keepdims=True))
        library = LIBRARY_SIZE * np.exp(rng.normal(0, LIBRARY_SD, (n, 1)))
        mean = library * rate / rate.sum(axis=1, keepdims=True)
        rate = self.counting.gamma(INVERSE_DISPERSION, mean / INVERSE_DISPERSION)
        return _annotate(self.counting.poisson(rate), "gene", samples, stem)

    def _image(self, stem: str, samples: pd.DataFrame, activity: np.ndarray, private: np.ndarray) -> AnnData:
        change = _effects_of(samples, activity @ self.pathway_features + 0.5 * private @ self.private_features)
        change += self.noise * self.rng.normal(size=change.shape)
        embedding = self._shift_batches(samples, change, 2.0).astype(np.float32)
        adata = _annotate(embedding, "feature", samples, stem)
        adata.obsm["X_image"] = embedding
        return adata

    def _shift_batches(self, samples: pd.DataFrame, change: np.ndarray, offset_sd: float) -> np.ndarray:
        n_batches = samples["batch"].max() + 1
        scale = np.exp(self.rng.normal(0, 0.2, (n_batches, 1)))
        offset = self.rng.normal(0, offset_sd, (n_batches, change.shape[1]))
        return change * scale[samples["batch"]] + offset[samples["batch"]]


def _effects_of(samples: pd.DataFrame, effects: np.ndarray) -> np.ndarray:
    rows = samples["effect"].to_numpy()
    return effects[rows] * (rows >= 0)[:, None]


def _annotate(values: np.ndarray, variable: str, samples: pd.DataFrame, stem: str) -> AnnData:
    obs = samples.drop(columns=["effect", "batch"]).rename(columns={"batch_name": "batch"})
    columns = {str(name): obs[name] for name in obs}
    return make_adata(values, obs=columns, obs_names=_name(stem, len(obs)), var_names=_name(variable, values.shape[1]))
