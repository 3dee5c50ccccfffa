from __future__ import annotations

import logging
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from semiclip import errors
from semiclip._arguments import check_number, check_whole
from semiclip._device import usable_device
from semiclip._numerics import row_blocks
from semiclip.encoders import _scgpt_checkpoint as published
from semiclip.encoders._expression import align_genes, check_counts, check_overlap, densify, read_counts
from semiclip.encoders._files import Stored
from semiclip.encoders._protocol import check_fitted
from semiclip.errors import some

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch
    from anndata import AnnData

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class ScGPTEncoder(Stored):
    """The cell embedding of a published scGPT model, read from its folder.

    The cell embedding is the state of the <cls> token after the last layer, on the unit sphere. Neither scGPT nor its
    requirements need be installed. scGPT draws twice at random, which is fixed here so that the same sample always has
    the same embedding: of more than ``max_length - 1`` expressed genes the most expressed are read, and a count that
    equals several quantiles gets the middle one of their bins.

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

        Raises
        ------
        FileNotFoundError, DamagedFile
            If a file of the folder is missing, damaged or not of scGPT.
        """
        folder = published.find_folder(self.checkpoint)
        vocabulary = published.read_vocabulary(folder)
        genes = self._match(adata, vocabulary)
        self._counts(adata, genes)
        sizes = {"kind": "scgpt", "n_input": len(genes), "max_length": int(self.max_length)}
        architecture = {**sizes, **published.read_settings(folder)}
        rows = [vocabulary[gene] for gene in (*genes, published.CLS)]
        self.network_ = published.load_network(folder, architecture, rows)
        self._architecture, self.genes_ = architecture, genes
        return self

    def encode(self, adata: AnnData) -> np.ndarray:
        """Return the embedding of each sample, float32 of shape (n_obs, d) and length 1."""
        import torch
        from tqdm.auto import tqdm

        check_fitted(self)
        values = self._counts(adata, self.genes_)
        network = self.network_.to(device := usable_device(self.device))
        out = np.empty((adata.n_obs, self._architecture["n_output"]), dtype=np.float32)
        blocks = list(row_blocks(adata.n_obs, self.batch_size))
        disable = not self.progress_bar or len(blocks) <= 1
        with torch.inference_mode():
            for rows in tqdm(blocks, "scGPT", unit="batch", delay=1, disable=disable):
                expression = torch.from_numpy(densify(values[rows], copy=True)).to(device)
                out[rows] = network(expression).cpu().numpy()
        return out

    @property
    def architecture(self) -> dict[str, Any]:
        """Plain values of which :func:`semiclip.encoders.build` makes the network, with ``"kind": "scgpt"``."""
        check_fitted(self)
        return dict(self._architecture)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the published weights; the token embedding has a row for each of ``genes_`` and last <cls>."""
        check_fitted(self)
        return {name: value.cpu().clone() for name, value in self.network_.state_dict().items()}

    def features(self, adata: AnnData) -> np.ndarray:
        """Return counts of ``genes_``, which the network reads, float32 of shape (n_obs, n_genes)."""
        check_fitted(self)
        return densify(self._counts(adata, self.genes_), copy=True)

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        return self.architecture, {name: value.numpy() for name, value in self.weights().items()}

    def _restore(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        import torch

        if state["n_input"] != len(self.genes_):
            raise errors.Mismatch("the number of genes", len(self.genes_), state["n_input"])
        self.network_ = published.assemble(state, {name: torch.from_numpy(array) for name, array in arrays.items()})
        self._architecture = state

    def _symbols(self, adata: AnnData) -> pd.Index:
        if self.gene_key is None:
            return adata.var_names
        if self.gene_key not in adata.var:
            raise errors.MissingColumn(self.gene_key, adata.var, "var", "gene_key")
        return pd.Index(adata.var[self.gene_key].astype(str))

    def _match(self, adata: AnnData, vocabulary: Mapping[str, int]) -> pd.Index:
        """Return the symbols that are in the vocabulary, in its order, so that the order of the data settles no tie."""
        symbols, tokens = self._symbols(adata), pd.Index(vocabulary)
        present = symbols.isin(tokens)
        size = f"of the {len(symbols)} genes in the vocabulary of {self.checkpoint}"
        way_out = "name the var column of human gene symbols as gene_key, or lower min_overlap to leave genes out"
        check_overlap(present, symbols, tokens, self.min_overlap, size, way_out)
        logger.info("%d %s, not %s", present.sum(), size, some(symbols[~present]) or "none")
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
