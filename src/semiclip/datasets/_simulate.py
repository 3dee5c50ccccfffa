from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

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

ImageResponse = Literal["linear", "saturated", "interacting", "none"]

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


REGIMES: dict[str, dict[str, Any]] = {
    "medium": {},
    "pathways_12": {"n_pathways": 12},
    "pathways_100": {"n_pathways": 100, "n_knockouts": 300},
    "saturated": {"n_pathways": 24, "image_response": "saturated"},
    "interacting": {"n_pathways": 24, "image_response": "interacting"},
    "private_images": {"n_pathways": 24, "image_private": 2.0, "image_state": 3.0},
    "private_expression": {"n_pathways": 24, "expression_private": 2.0},
    "private_interacting": {
        "n_pathways": 24,
        "image_response": "interacting",
        "image_private": 2.0,
        "image_state": 3.0,
        "expression_private": 1.5,
    },
    "no_batches": {"n_pathways": 24, "batch_effect": 0.0},
    "strong_batches": {"n_pathways": 24, "batch_effect": 3.0},
    "keys_100": {"n_pathways": 24, "n_compounds": 50, "doses": (1.0, 10.0)},
    "keys_10000": {"n_pathways": 24, "n_compounds": 2500, "doses": (0.1, 1.0, 10.0, 100.0)},
    # at such doses all responses are whole: how potent a compound is would be shared
    "nothing_shared": {"n_pathways": 24, "image_response": "none", "image_private": 2.0, "doses": (1e6, 2e6, 4e6)},
}
"""Arguments of :func:`simulate` for studies that differ in what makes distillation hard.

They differ in the number of pathways and of pairing keys (those of ``keys_100`` and ``keys_10000`` are in their names),
in how images respond to pathways, in the variation that either modality keeps to itself, and in batch effects.
"""

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
    image_response: ImageResponse = "linear",
    image_private: float = 0.5,
    image_state: float = 0.0,
    expression_private: float | None = None,
    batch_effect: float = 1.0,
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
    * Image embeddings: :math:`t_i = \sigma_b (V^\top h(a_p) + w\,U^\top g_p + z\,W^\top c_i + \tau\,\epsilon) +
      \delta_b` with standard normal :math:`V`, :math:`U`, :math:`W` and :math:`c_i \sim N(0, I)`, six factors such as
      cell count and staining. The response :math:`h(a)` is :math:`a` (``"linear"``); :math:`s \tanh(2 a / s)`, which
      large effects saturate (``"saturated"``); :math:`2 s\,P^{-1/2} \tanh(R^\top a / s)` with standard normal
      :math:`R` of :math:`P \times P`, in which the pathways of a perturbation also act on each other
      (``"interacting"``); or 0 (``"none"``).
    * Batches: scale :math:`\log \sigma_b \sim N(0, (0.2\,\beta)^2)`; offset :math:`\delta_b = \beta (0.5\,\epsilon +
      Q^\top q_b)` for expression, where :math:`q_b \sim N(0, I)` is the activity of five gene programs that all batches
      share, such as stress or ambient RNA; :math:`\delta_b \sim N(0, (2\,\beta)^2)` for images. Modalities never
      share a batch, nor do compounds and knockouts. Every batch has controls, for which :math:`a = f = g = 0`.

    Difficulty sets :math:`(s, v, \tau)`: easy (3.4, 0.8, 2.4), medium (3, 1, 3.2), hard (2.6, 1.2, 4). There are 4
    expression and 3 image samples of each compound and dose, and 6 of each knockout.
    :data:`semiclip.datasets.REGIMES` has arguments of studies that are hard in other ways, by name:
    ``simulate(**REGIMES["private_images"])``.

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
    image_response
        How images respond to pathways: ``"linear"``, ``"saturated"``, ``"interacting"`` or not at all (``"none"``).
    image_private, expression_private
        Sizes :math:`w` and :math:`v` of the effects that a perturbation has in one modality alone; ``None`` is the
        :math:`v` of the difficulty.
    image_state
        Size :math:`z` of the variation of cell state and staining between image samples, also of controls.
    batch_effect
        Size :math:`\beta` of the differences between batches; 0 for none.
    rng
        Seed or generator; ``None`` draws another study each time.

    Returns
    -------
    The study. ``obs`` has ``perturbation`` (``"control"`` for controls), ``dose`` (µM, 0 for controls and knockouts),
    ``batch`` and, for knockouts, ``pathway``. ``varm["pathways"]`` of the expression is :math:`L^\top`, the loading of
    each gene on each pathway, 0 for the genes that are not in it.

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
    check_choice("image_response", image_response, ImageResponse)
    strength, private, noise = DIFFICULTIES[difficulty]
    private = private if expression_private is None else expression_private
    effects = _Sizes(strength, private, image_private, image_state, noise, batch_effect)
    for name, size in effects._asdict().items():
        check_number(name, size, least=0)
    rng = np.random.default_rng(rng)
    world = _World(rng, n_pathways, n_genes, n_image_features, image_response, effects)

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


class _Sizes(NamedTuple):
    """Sizes of what makes samples differ."""

    strength: float
    expression_private: float
    image_private: float
    image_state: float
    noise: float
    batch_effect: float


class _World:
    """The loadings that compounds and knockouts share: one biology, measured twice."""

    def __init__(
        self,
        rng: np.random.Generator,
        n_pathways: int,
        n_genes: int,
        n_features: int,
        response: ImageResponse,
        sizes: _Sizes,
    ) -> None:
        # counting has a stream of its own: how much of it is used depends on the rates, and nothing else shall; so has
        # what few studies have, which leaves the others as they are
        self.rng, self.response, self.sizes = rng, response, sizes
        self.counting, self.rare = rng.spawn(2)
        self.base = rng.normal(size=n_genes)
        self.pathway_genes, self.private_genes, self.state_genes, self.batch_genes = (
            rng.normal(size=(k, n_genes)) * (rng.random((k, n_genes)) < density)
            for k, density in ((n_pathways, 0.1), (N_PRIVATE, 0.2), (N_STATES, 0.2), (N_PROGRAMS, 0.3))
        )
        self.pathway_features = rng.normal(size=(n_pathways, n_features))
        self.private_features = rng.normal(size=(N_PRIVATE, n_features))
        self.mixing = self.rare.normal(size=(n_pathways, n_pathways))
        self.state_features = self.rare.normal(size=(N_STATES, n_features))

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
        effects = activity @ self.pathway_genes + self.sizes.expression_private * private @ self.private_genes
        change = _effects_of(samples, effects) + 0.5 * rng.normal(size=(n, N_STATES)) @ self.state_genes
        programs = rng.normal(size=(samples["batch"].max() + 1, N_PROGRAMS)) @ self.batch_genes
        programs *= self.sizes.batch_effect
        logits = self.base + self._shift_batches(samples, change, 0.5) + programs[samples["batch"]]
        rate = np.exp(logits - logits.max(axis=1, keepdims=True))
        library = LIBRARY_SIZE * np.exp(rng.normal(0, LIBRARY_SD, (n, 1)))
        mean = library * rate / rate.sum(axis=1, keepdims=True)
        rate = self.counting.gamma(INVERSE_DISPERSION, mean / INVERSE_DISPERSION)
        adata = _annotate(self.counting.poisson(rate), "gene", samples, stem)
        names = _name("pathway", len(self.pathway_genes))
        adata.varm["pathways"] = pd.DataFrame(self.pathway_genes.T + 0.0, index=adata.var_names, columns=names)
        return adata

    def _image(self, stem: str, samples: pd.DataFrame, activity: np.ndarray, private: np.ndarray) -> AnnData:
        effects = self._respond(activity) @ self.pathway_features
        change = _effects_of(samples, effects + self.sizes.image_private * private @ self.private_features)
        change += self.sizes.noise * self.rng.normal(size=change.shape)
        if self.sizes.image_state:
            change += self.sizes.image_state * self.rare.normal(size=(len(change), N_STATES)) @ self.state_features
        embedding = self._shift_batches(samples, change, 2.0).astype(np.float32)
        adata = _annotate(embedding, "feature", samples, stem)
        adata.obsm["X_image"] = embedding
        return adata

    def _respond(self, activity: np.ndarray) -> np.ndarray:
        """Return what images show of pathway activities (n, pathways)."""
        size = self.sizes.strength
        match self.response:
            case "linear":
                return activity
            case "saturated":
                return size * np.tanh(2 * activity / size)
            case "interacting":
                return 2 * size / np.sqrt(len(self.mixing)) * np.tanh(activity @ self.mixing / size)
            case "none":
                return np.zeros_like(activity)

    def _shift_batches(self, samples: pd.DataFrame, change: np.ndarray, offset_sd: float) -> np.ndarray:
        n_batches, effect = samples["batch"].max() + 1, self.sizes.batch_effect
        scale = np.exp(self.rng.normal(0, 0.2, (n_batches, 1)) * effect)
        offset = self.rng.normal(0, offset_sd, (n_batches, change.shape[1])) * effect
        return change * scale[samples["batch"]] + offset[samples["batch"]]


def _effects_of(samples: pd.DataFrame, effects: np.ndarray) -> np.ndarray:
    rows = samples["effect"].to_numpy()
    return effects[rows] * (rows >= 0)[:, None]


def _annotate(values: np.ndarray, variable: str, samples: pd.DataFrame, stem: str) -> AnnData:
    obs = samples.drop(columns=["effect", "batch"]).rename(columns={"batch_name": "batch"})
    columns = {str(name): obs[name] for name in obs}
    return make_adata(values, obs=columns, obs_names=_name(stem, len(obs)), var_names=_name(variable, values.shape[1]))
