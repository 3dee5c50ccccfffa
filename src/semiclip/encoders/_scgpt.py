from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from semiclip._checks import some
from semiclip._device import usable_device
from semiclip.encoders._files import Stored, fitting
from semiclip.encoders._protocol import align, check_fitted, counts, dense, rows_where
from semiclip.encoders._scgpt_checkpoint import CLS, assemble, find, load, read_settings, read_vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch
    from anndata import AnnData

logger = logging.getLogger(__name__)


class ScGPTEncoder(Stored):
    """The embedding of a sample by a published scGPT model, read from its folder.

    It is what scGPT calls the cell embedding: the state of the <cls> token after the last layer, on the unit sphere.
    Neither scGPT nor its requirements need be installed. Two draws of scGPT are fixed, so that the same sample always
    has the same embedding: of more than ``max_length - 1`` expressed genes the most expressed are read, where scGPT
    reads some at random, and counts that many quantiles are equal to get the middle one of their bins.

    Parameters
    ----------
    checkpoint
        Folder with ``args.json``, ``vocab.json`` and ``best_model.pt``, such as that of the whole-human model.
    gene_key
        ``var`` column of the gene symbols, ``var_names`` by default.
    layer
        Layer that holds the counts, ``X`` by default. What is normalised within samples has the same bins.
    max_length
        Most tokens of a sample, one of them <cls>; time and memory grow with it.
    batch_size
        Samples that are embedded at a time.
    min_overlap
        Share of the genes that must be in the vocabulary, and of ``genes_`` that other data must have. What they lack
        is not expressed, with a warning.
    device
        Where the network runs; ``"auto"`` is a CUDA GPU if there is one, else the CPU.
    progress_bar
        Whether :meth:`encode` shows its progress, where it takes more than a batch and a second.

    Attributes
    ----------
    genes_
        Symbols of the genes that are read, in the order of the vocabulary.
    network_
        The network, in evaluation mode.

    References
    ----------
    Cui et al. 2024, DOI 10.1038/s41592-024-02201-0.

    Examples
    --------
    A folder like a published one, with a small network that was never trained:

    >>> import json
    >>> import tempfile
    >>> from pathlib import Path
    >>> import semiclip as scl
    >>> import torch
    >>> from semiclip.encoders import ScGPTEncoder, build
    >>> rna = scl.datasets.simulate(n_compounds=5, n_knockouts=20, n_pathways=5, n_genes=40).mdata["rna"]
    >>> names = [*rna.var_names, "<pad>", "<cls>"]
    >>> settings = {"embsize": 8, "nheads": 2, "d_hid": 16, "nlayers": 1, "pad_value": -2}
    >>> sizes = {"n_input": 41, "n_output": 8, "n_heads": 2, "n_hidden": 16, "n_layers": 1}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "args.json").write_text(json.dumps(settings))
    ...     _ = (Path(folder) / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}))
    ...     torch.save(build({"kind": "scgpt", **sizes}).state_dict(), Path(folder) / "best_model.pt")
    ...     encoder = ScGPTEncoder(folder, progress_bar=False).fit(rna)
    >>> encoder.encode(rna).shape
    (252, 8)
    """

    def __init__(
        self,
        checkpoint: str | Path,
        *,
        gene_key: str | None = None,
        layer: str | None = None,
        max_length: int = 1200,
        batch_size: int = 64,
        min_overlap: float = 0.5,
        device: str = "auto",
        progress_bar: bool = True,
    ) -> None:
        for name, value, least in (("max_length", max_length, 2), ("batch_size", batch_size, 1)):
            if value < least:
                msg = f"{name}={value} must be at least {least}"
                raise ValueError(msg)
        if not 0 < min_overlap <= 1:
            msg = f"min_overlap={min_overlap} is not a share of the genes, above 0 and at most 1"
            raise ValueError(msg)
        self.checkpoint, self.gene_key, self.layer = str(checkpoint), gene_key, layer
        self.max_length, self.batch_size, self.min_overlap = max_length, batch_size, min_overlap
        self.device, self.progress_bar = device, progress_bar

    def fit(self, adata: AnnData) -> ScGPTEncoder:
        """Find the genes of ``adata`` in the vocabulary and read their weights; returns the encoder itself.

        Raises
        ------
        FileNotFoundError
            If the folder lacks a file.
        KeyError
            If the layer or ``gene_key`` is missing.
        ValueError
            If a file is broken or not what scGPT publishes, too few genes are in the vocabulary, or values are not
            counts.
        """
        folder = find(self.checkpoint)
        vocabulary = read_vocabulary(folder)
        genes = self._match(adata, vocabulary)
        self._counts(adata, genes)
        sizes = {"kind": "scgpt", "n_input": len(genes), "max_length": int(self.max_length)}
        architecture = {**sizes, **read_settings(folder)}
        rows = [*(vocabulary[gene] for gene in genes), vocabulary[CLS]]
        network = load(folder, architecture, rows)
        self.network_, self._architecture, self.genes_ = network, architecture, genes
        return self

    def encode(self, adata: AnnData) -> np.ndarray:
        """Return the embedding of each sample, float32 of shape (n_obs, d) and length 1."""
        import torch
        from tqdm.auto import tqdm

        check_fitted(self)
        values = self._counts(adata, self.genes_)
        device = usable_device(self.device)
        network = self.network_.to(device)
        out = np.empty((adata.n_obs, self._architecture["n_output"]), dtype=np.float32)
        starts = range(0, adata.n_obs, self.batch_size)
        shown = self.progress_bar and len(starts) > 1
        with torch.inference_mode():
            for start in tqdm(starts, "scGPT", unit="batch", delay=1, disable=not shown):
                rows = slice(start, start + self.batch_size)
                expression = torch.from_numpy(dense(values[rows], copy=True)).to(device)
                out[rows] = network(expression).cpu().numpy()
        return out

    @property
    def architecture(self) -> dict[str, Any]:
        """Plain values that :func:`semiclip.encoders.build` makes the network of, ``"kind": "scgpt"`` among them."""
        check_fitted(self)
        return dict(self._architecture)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the published weights, of the vocabulary those of ``genes_`` and last of <cls>."""
        check_fitted(self)
        return {name: value.cpu().clone() for name, value in self.network_.state_dict().items()}

    def features(self, adata: AnnData) -> np.ndarray:
        """Return what the network reads: counts of ``genes_``, float32 of shape (n_obs, n_genes)."""
        check_fitted(self)
        return dense(self._counts(adata, self.genes_), copy=True)

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        return self.architecture, {name: value.numpy() for name, value in self.weights().items()}

    def _restore(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        import torch

        network = assemble(state, {name: torch.from_numpy(array) for name, array in arrays.items()})
        fitting(arrays, {name: tuple(value.shape) for name, value in network.state_dict().items()})
        if state["n_input"] != len(self.genes_):
            msg = f"there are {len(self.genes_)} genes, but the network reads {state['n_input']}"
            raise ValueError(msg)
        self.network_, self._architecture = network, state

    def _symbols(self, adata: AnnData) -> pd.Index:
        if self.gene_key is None:
            return adata.var_names
        if self.gene_key not in adata.var:
            msg = f"gene_key={self.gene_key!r} is not a column of var, which has {some(adata.var) or 'none'}"
            raise KeyError(msg)
        return pd.Index(adata.var[self.gene_key].astype(str))

    def _match(self, adata: AnnData, vocabulary: Mapping[str, int]) -> pd.Index:
        """Return the symbols that are in the vocabulary, in its order, or say why there are too few."""
        symbols = self._symbols(adata)
        known = symbols.isin(vocabulary.keys())
        size = f"{known.sum()} of the {len(symbols)} genes are in the vocabulary of {self.checkpoint}"
        unknown = symbols[~known]
        if not known.any() or known.mean() < self.min_overlap:
            msg = (
                f"{size}, less than min_overlap={self.min_overlap}; not {some(unknown) or 'one'}: "
                f"{_remedy(unknown, vocabulary)}"
            )
            raise ValueError(msg)
        logger.info("%s%s", size, f", not {some(unknown)}" if len(unknown) else "")
        # an order of its own, so that the order of the data settles no tie
        return pd.Index(sorted(symbols[known].unique(), key=vocabulary.__getitem__))

    def _counts(self, adata: AnnData, genes: pd.Index) -> Any:
        """Return checked counts, dense or csr, with a column for each of ``genes``."""
        named, layer = (adata, self.layer) if self.gene_key is None else (self._renamed(adata, genes), None)
        values = align(named, layer, genes, self.min_overlap)
        if (rows := rows_where(values, lambda x: ~((x >= 0) & (x <= np.finfo(np.float32).max)))).size:
            msg = (
                f"scGPT reads counts, but expression is negative or not finite in {len(rows)} row(s): "
                f"{some(adata.obs_names[rows])}; name the layer that holds the counts"
            )
            raise ValueError(msg)
        return values.tocsr() if hasattr(values, "tocsr") else values

    def _renamed(self, adata: AnnData, genes: pd.Index) -> AnnData:
        """Return the counts with symbols as ``var_names``; of symbols that are not read the first is enough."""
        from anndata import AnnData

        values, symbols = counts(adata, self.layer), self._symbols(adata)
        repeated = symbols.duplicated()
        if len(wrong := symbols[repeated & symbols.isin(genes)].unique()):
            msg = (
                f"var[{self.gene_key!r}] repeats {some(wrong)}; keep one of each, as "
                f"adata[:, ~adata.var[{self.gene_key!r}].duplicated()] does"
            )
            raise ValueError(msg)
        if repeated.any():
            values, symbols = values[:, ~repeated], symbols[~repeated]
        return AnnData(values, var=pd.DataFrame(index=symbols))


def _remedy(unknown: pd.Index, vocabulary: Mapping[str, int]) -> str:
    """Guess from the symbols that are not in the vocabulary what would mend that."""
    half = len(unknown) / 2
    if unknown.str.match(r"ENS[A-Z]*[GT]\d{6}").sum() > half:
        return "these are Ensembl ids; name the var column of gene symbols as gene_key"
    if unknown.str.upper().isin(vocabulary.keys()).sum() > half:
        return (
            "in capitals they would be; scGPT knows human genes, so map those of another species to their orthologues"
        )
    return "name the var column of human gene symbols as gene_key, or lower min_overlap if these genes can be left out"
