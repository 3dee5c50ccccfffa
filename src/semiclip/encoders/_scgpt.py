from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from semiclip import errors
from semiclip._arguments import check_number, check_whole
from semiclip._damage import say_reason
from semiclip._device import usable_device
from semiclip._numerics import row_blocks
from semiclip.encoders._expression import align_genes, check_counts, check_overlap, densify, read_counts
from semiclip.encoders._files import Stored
from semiclip.encoders._network import build

if TYPE_CHECKING:
    import torch
    from anndata import AnnData
    from torch import nn

logger = logging.getLogger(__name__)

SETTINGS, VOCABULARY, WEIGHTS = "args.json", "vocab.json", "best_model.pt"
CLS, EMBEDDING = "<cls>", "encoder.embedding.weight"
SIZES = {"d_hid": "n_hidden", "embsize": "n_output", "nlayers": "n_layers", "nheads": "n_heads"}
USUAL = {"n_bins": 51, "dropout": 0.2}
PUBLISHED = {"input_emb_style": "continuous", "input_style": "binned", "pre_norm": False}


@dataclass(eq=False)
class ScGPTEncoder(Stored):
    """The cell embedding of a published scGPT model, read from its folder.

    The cell embedding is the state of the <cls> token after the last layer, on the unit sphere; scGPT need not be
    installed. Where scGPT draws at random, the choice is fixed here: of more than ``max_length - 1`` expressed genes
    the most expressed are read, and a count that equals several quantiles gets the middle one of their bins.

    Parameters
    ----------
    checkpoint
        Folder with ``args.json``, ``vocab.json`` and ``best_model.pt``, such as the whole-human model.
    gene_key
        ``var`` column of the gene symbols, ``var_names`` by default.
    layer
        Layer that holds the counts, ``X`` by default. Values that are normalised within samples have the same bins.
    max_length
        Most tokens of a sample, one of them <cls>. Time and memory grow with it.
    batch_size
        Samples that are embedded at a time.
    min_overlap
        Share of the genes that must be in the vocabulary, and share of the encoder's genes that other data must have.
        Missing genes count as not expressed, with a warning.
    device
        Where the network runs; ``"auto"`` is a CUDA GPU if there is one, else the CPU.
    progress_bar
        Whether :meth:`encode` shows its progress if it takes more than a batch and a second.

    References
    ----------
    Cui et al. 2024, DOI 10.1038/s41592-024-02201-0.

    Examples
    --------
    >>> import semiclip as scl
    >>> encoder = scl.encoders.ScGPTEncoder("scGPT_human", gene_key="symbol")
    >>> encoder.fit(adata).encode(adata).shape  # doctest: +SKIP
    (252, 512)
    """

    checkpoint: str | Path
    _: KW_ONLY
    gene_key: str | None = None
    layer: str | None = None
    max_length: int = 1200
    batch_size: int = 64
    min_overlap: float = 0.5
    device: str = "auto"
    progress_bar: bool = True

    def __post_init__(self) -> None:
        check_whole("max_length", self.max_length, 2)
        check_whole("batch_size", self.batch_size)
        check_number("min_overlap", self.min_overlap, above=0, most=1)
        self.checkpoint = str(self.checkpoint)

    def fit(self, adata: AnnData) -> ScGPTEncoder:
        """Find the genes of ``adata`` in the vocabulary, read their weights and return the encoder itself.

        A file of the folder that is missing, damaged or not of scGPT raises a FileNotFoundError or DamagedFile.
        """
        folder = Path(self.checkpoint).expanduser()
        if missing := [path for name in (SETTINGS, VOCABULARY, WEIGHTS) if not (path := folder / name).is_file()]:
            needed = "checkpoint is the folder of a published scGPT model, with all of its files"
            raise errors.MissingFile(missing, needed)
        vocabulary = _read_json(path := folder / VOCABULARY, (CLS, "<pad>"))  # the row of each token in the embedding
        if wrong := [token for token, row in vocabulary.items() if type(row) is not int or row < 0]:
            raise errors.DamagedFile(path, f"tokens without a row of the embedding: {errors.some(wrong)}")
        genes = self._match(adata, vocabulary)
        self._counts(adata, genes)
        sizes = {"kind": "scgpt", "n_input": len(genes), "max_length": int(self.max_length)}
        architecture = {**sizes, **_read_settings(folder)}
        self.network_ = _load_network(folder, architecture, [vocabulary[gene] for gene in (*genes, CLS)])
        self._architecture, self.genes_ = architecture, genes
        return self

    def encode(self, adata: AnnData) -> np.ndarray:
        """Return the embedding of each sample, float32 of shape (n_obs, d) and length 1."""
        import torch
        from tqdm.auto import tqdm

        self._check_fitted()
        values = self._counts(adata, self.genes_)
        network = self.network_.to(device := usable_device(self.device))
        out = np.empty((adata.n_obs, self._architecture["n_output"]), dtype=np.float32)
        blocks, hidden = list(row_blocks(adata.n_obs, self.batch_size)), not self.progress_bar
        with torch.inference_mode():
            for rows in tqdm(blocks, "scGPT", unit="batch", delay=1, disable=hidden or len(blocks) <= 1):
                expression = torch.from_numpy(densify(values[rows], copy=True)).to(device)
                out[rows] = network(expression).cpu().numpy()
        return out

    @property
    def architecture(self) -> dict[str, Any]:
        """Plain values of which :func:`semiclip.encoders.build` makes the network, with ``"kind": "scgpt"``."""
        self._check_fitted()
        return dict(self._architecture)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the published weights; the token embedding has a row for each of ``genes_`` and last <cls>."""
        self._check_fitted()
        return {name: value.cpu().clone() for name, value in self.network_.state_dict().items()}

    def features(self, adata: AnnData) -> np.ndarray:
        """Return counts of ``genes_``, which the network reads, float32 of shape (n_obs, n_genes)."""
        self._check_fitted()
        return densify(self._counts(adata, self.genes_), copy=True)

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        return self.architecture, {name: value.numpy() for name, value in self.weights().items()}

    def _restore(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        import torch

        if state["n_input"] != len(self.genes_):
            raise errors.Mismatch("the number of genes", len(self.genes_), state["n_input"])
        self.network_ = _assemble(state, {name: torch.from_numpy(array) for name, array in arrays.items()})
        self._architecture = state

    def _symbols(self, adata: AnnData) -> pd.Index:
        if self.gene_key is None:
            return adata.var_names
        if self.gene_key not in adata.var:
            raise errors.MissingColumn(self.gene_key, adata.var, "var", "gene_key")
        return pd.Index(adata.var[self.gene_key].astype(str))

    def _match(self, adata: AnnData, vocabulary: Mapping[str, int]) -> pd.Index:
        """Return the symbols that are in the vocabulary, in its order, so that the order of the data settles no tie."""
        symbols, tokens = self._symbols(adata), pd.Index(list(vocabulary))
        present = symbols.isin(tokens)
        size = f"of the {len(symbols)} genes in the vocabulary of {self.checkpoint}"
        way_out = "name the var column of human symbols (or orthologues) as gene_key, or lower min_overlap"
        check_overlap(present, symbols, tokens, self.min_overlap, size, way_out)
        logger.info("%d %s; left out: %s", present.sum(), size, errors.some(symbols[~present]) or "none")
        return pd.Index(sorted(symbols[present].unique(), key=vocabulary.__getitem__))

    def _counts(self, adata: AnnData, genes: pd.Index) -> Any:
        """Return checked counts, dense or csr, with a column for each of ``genes``; only these must not repeat."""
        values, symbols = read_counts(adata, self.layer), self._symbols(adata)
        repeated = symbols.duplicated()
        if len(wrong := symbols[repeated & symbols.isin(genes)].unique()):
            way_out = f"keep one of each, as adata[:, ~adata.var[{self.gene_key!r}].duplicated()] does"
            raise errors.Repeated(f"symbols in var[{self.gene_key!r}]", wrong, way_out)
        if repeated.any():
            values, symbols = values[:, ~repeated], symbols[~repeated]
        values = align_genes(values, symbols, genes, self.min_overlap)
        largest = np.finfo(np.float32).max
        check_counts(values, adata.obs_names, "negative or not finite", lambda x: ~((x >= 0) & (x <= largest)))
        return values.tocsr() if hasattr(values, "tocsr") else values


def _read_json(path: Path, needed: Iterable[str]) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except Exception as error:
        raise errors.DamagedFile(path, f"it is not JSON ({say_reason(error)})") from error
    if not isinstance(content, dict):
        raise errors.DamagedFile(path, f"it holds a {type(content).__name__}, not an object with names")
    if missing := [name for name in needed if name not in content]:
        raise errors.DamagedFile(path, f"it lacks {errors.some(missing)}, which a model that makes cell embeddings has")
    return content


def _read_settings(folder: Path) -> dict[str, Any]:
    """Return the sizes of the network as :class:`ScGPTNetwork` names them; refuse settings that it does not have."""
    settings = _read_json(path := folder / SETTINGS, (*SIZES, "pad_value"))
    if foreign := [f"{name}={settings[name]!r}" for name, x in PUBLISHED.items() if settings.get(name, x) != x]:
        raise errors.DamagedFile(path, f"no published model has {errors.some(foreign)}, which this encoder cannot do")
    usual = {name: settings.get(name, value) for name, value in USUAL.items()}
    return {**{name: settings[key] for key, name in SIZES.items()}, "pad_value": settings["pad_value"], **usual}


def _load_network(folder: Path, architecture: Mapping[str, Any], rows: Sequence[int]) -> nn.Module:
    """Build the network with the published weights, of the vocabulary with ``rows``; nothing else is unpickled."""
    import torch

    path = folder / WEIGHTS
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises anything
        reason = f"it is cut short, or holds more than weights, which could run code ({say_reason(error)})"
        raise errors.DamagedFile(path, reason, "download it again") from error
    if not isinstance(state, Mapping):
        raise errors.DamagedFile(path, f"it holds a {type(state).__name__}, not weights by name")
    tensors = {str(name): value for name, value in state.items() if isinstance(value, torch.Tensor)}
    weights = {_rename(name): value for name, value in tensors.items()}
    if len(weights) < len(tensors):
        raise errors.DamagedFile(
            path, f"it has weights under two names, as {errors.some(tensors.keys() - weights.keys())}"
        )
    if aside := [name for name in weights if name.startswith(("bn.", "dsbn."))]:
        logger.info("normalisation of tokens is left out, as scGPT does for cell embeddings: %s", errors.some(aside))
    try:
        return _assemble(architecture, {**weights, EMBEDDING: weights[EMBEDDING][list(rows)]})
    except IndexError as error:
        reason = f"it names row {max(rows)}, but {EMBEDDING} is {tuple(weights[EMBEDDING].shape)}"
        raise errors.DamagedFile(folder / VOCABULARY, reason) from error
    except Exception as error:  # so do crafted tensors
        raise errors.DamagedFile(path, f"it does not fit {SETTINGS}: {say_reason(error)}") from error


def _rename(name: str) -> str:
    """Undo the names that torch's attention gives its projections, and the prefix of training on many GPUs."""
    name = name.removeprefix("module.").replace("self_attn._impl.", "self_attn.")
    return re.sub(r"self_attn\.in_proj_(weight|bias)$", r"self_attn.Wqkv.\1", name)


def _assemble(architecture: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> nn.Module:
    """Build a network, in evaluation mode, around its weights; further weights are left out."""
    import torch

    numbers = {name.split(".")[2] for name in weights if name.startswith("transformer_encoder.layers.")}
    if len(numbers) != architecture["n_layers"]:  # before a number that may be absurd is built
        raise errors.Mismatch("the number of layers", len(numbers), architecture["n_layers"])
    with torch.device("meta"):  # nothing is drawn
        network = build(architecture)
    single = {}
    for name, value in network.state_dict().items():
        if (tensor := weights.get(name)) is None:
            raise errors.MissingEntry(name, weights, "the weights")
        is_plain = tensor.layout == torch.strided and not tensor.is_nested and tensor.device.type == "cpu"
        if not is_plain or not tensor.is_floating_point():
            kind = f"{tensor.dtype}, {tensor.layout}, {'nested, ' * tensor.is_nested}{tensor.device}"
            raise errors.WrongDtype(name, kind, "plain floating-point numbers")
        if tensor.shape != value.shape:
            raise errors.WrongShape(name, tuple(tensor.shape), str(tuple(value.shape)))
        single[name] = tensor.float()
        if not single[name].isfinite().all():
            raise errors.Refused(f"{name} holds NaN or infinite values as float32")
    network.load_state_dict(single, assign=True)
    return network.eval()
