from __future__ import annotations

from typing import Any, Literal

import numpy as np

from semiclip._arguments import check_choice
from semiclip.augment._protocol import Expression, FittedDraws
from semiclip.encoders._scvi import SCVIEncoder
from semiclip.errors import BadValue, IdleArgument, NotCounts

BATCH = "batch"
Mode = Literal["mean", "ppc"]


class SCVIAugmentation(FittedDraws):
    """Expression as scVI's decoder gives it back for one draw from its posterior.

    Genes that the encoder (Lopez et al. 2018, DOI 10.1038/s41592-018-0229-2) does not know stay as they are. The others
    keep the share of a row's 10,000 counts that they have together.

    Parameters
    ----------
    encoder
        A fitted scVI encoder whose decoder is used; ``None`` fits one on the same counts.
    mode
        ``"mean"`` takes the decoded mean of one posterior draw, which is denoised; ``"ppc"`` draws counts around it.
    **encoder_kwargs
        Arguments of the :class:`semiclip.encoders.SCVIEncoder` that is fitted, such as ``max_epochs``.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from semiclip.augment import Expression
    >>> rng, codes = np.random.default_rng(0), np.zeros(20, int)
    >>> expression = Expression(rng.poisson(5.0, (20, 8)), codes, codes, pd.Index(list("abcdefgh")))
    >>> quiet = {"enable_progress_bar": False, "log_every_n_steps": 1}
    >>> SCVIAugmentation(max_epochs=1, train_kwargs=quiet).fit(expression, rng).draw(np.arange(3), rng).shape
    (3, 8)
    """

    def __init__(self, *, encoder: SCVIEncoder | None = None, mode: Mode = "mean", **encoder_kwargs: Any) -> None:
        check_choice("mode", mode, Mode)
        if encoder is not None and encoder_kwargs:
            raise IdleArgument(list(encoder_kwargs), "on an encoder that is fitted already")
        self.encoder, self.mode, self.encoder_kwargs = encoder, mode, encoder_kwargs

    def _learn(self, expression: Expression, rng: np.random.Generator) -> None:
        if not expression.normalize:
            raise NotCounts((), "normalised already", "leave this augmentation out")
        encoder = self.encoder
        if encoder is None:
            adata = expression.adata(np.arange(len(expression.group)), BATCH)
            encoder = SCVIEncoder(batch_key=BATCH, rng=rng, **self.encoder_kwargs).fit(adata)
        elif encoder.batch_key is not None and list(expression.batch_names) == ["all rows"]:
            raise BadValue("batch_key", None, f"the batches, which the encoder read in obs[{encoder.batch_key!r}]")
        _, first = np.unique(expression.batch, return_index=True)
        # a first draw refuses genes and batches that the encoder does not know
        self._decode(expression, encoder, first, rng.spawn(1)[0])
        self.encoder_ = encoder

    def _change(self, drawn: np.ndarray, rows: np.ndarray, treated: np.ndarray, rng: np.random.Generator) -> None:
        if not treated.size:
            return
        places = self._expression.genes.get_indexer(self.encoder_.genes_)  # of the decoder, in its own order
        shared = places >= 0
        target = np.ix_(treated, places[shared])
        decoded = self._decode(self._expression, self.encoder_, rows[treated], rng)[:, shared]
        kept, total = (x.sum(axis=1, keepdims=True, dtype=np.float64) for x in (np.expm1(drawn[target]), decoded))
        drawn[target] = np.log1p(decoded * np.divide(kept, total, out=np.zeros_like(kept), where=total > 0))

    def _decode(self, data: Expression, encoder: SCVIEncoder, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        adata = data.adata(rows, encoder.batch_key or BATCH, encoder.layer)
        return encoder.denoise(adata, mode=self.mode, rng=rng)
