from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from semiclip.augment._protocol import check_fitted
from semiclip.encoders._scvi import SCVIEncoder

if TYPE_CHECKING:
    from semiclip.augment._protocol import Expression

BATCH = "batch"


class SCVIAugmentation:
    """Expression as scVI's decoder gives it back for one draw from its posterior.

    Parameters
    ----------
    encoder
        A fitted scVI encoder whose decoder is used; ``None`` fits one on the same counts.
    mode
        ``"mean"`` takes the decoded mean of one posterior draw, which is denoised; ``"ppc"`` draws counts around it.
    **encoder_kwargs
        Arguments of the :class:`semiclip.encoders.SCVIEncoder` that is fitted, such as ``max_epochs``.

    References
    ----------
    Lopez et al. 2018, DOI 10.1038/s41592-018-0229-2.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from semiclip.augment import Expression, SCVIAugmentation
    >>> rng = np.random.default_rng(0)
    >>> counts, genes = rng.poisson(5.0, (20, 8)), pd.Index([f"gene_{i}" for i in range(8)])
    >>> expression = Expression(counts, np.zeros(20, int), np.zeros(20, int), genes)
    >>> quiet = {"enable_progress_bar": False, "log_every_n_steps": 1}
    >>> augmentation = SCVIAugmentation(max_epochs=1, n_latent=2, train_kwargs=quiet).fit(expression, rng)
    >>> augmentation.draw(np.arange(3), rng).shape
    (3, 8)
    """

    def __init__(
        self, *, encoder: SCVIEncoder | None = None, mode: Literal["mean", "ppc"] = "mean", **encoder_kwargs: object
    ) -> None:
        if mode not in ("mean", "ppc"):
            msg = f"mode={mode!r} is not one of mean, ppc"
            raise ValueError(msg)
        if encoder is not None and encoder_kwargs:
            msg = f"the encoder is already fitted, so {', '.join(encoder_kwargs)} would have no effect"
            raise TypeError(msg)
        self.encoder, self.mode, self.encoder_kwargs = encoder, mode, encoder_kwargs

    def fit(self, expression: Expression, rng: np.random.Generator) -> SCVIAugmentation:
        """Fit scVI on the counts, unless an encoder was given; returns the augmentation itself.

        Raises
        ------
        ValueError
            If values are not counts, or the encoder that was given knows neither the genes nor the batches.
        """
        if not expression.normalize:
            msg = "scVI models raw counts, but these values are normalised already; leave this augmentation out"
            raise ValueError(msg)
        encoder = self.encoder
        if encoder is None:
            everything = np.arange(len(expression.group))
            encoder = SCVIEncoder(batch_key=BATCH, rng=rng, **self.encoder_kwargs)  # type: ignore[arg-type]
            encoder.fit(expression.adata(everything, BATCH))
        elif encoder.batch_key is not None and list(expression.batch_names) == ["all rows"]:
            msg = f"the decoder of this encoder is told the batch, obs[{encoder.batch_key!r}]; pass batch_key= as well"
            raise ValueError(msg)
        self.expression_, self.encoder_ = expression, encoder
        _, first = np.unique(expression.batch, return_index=True)
        self._denoised(first, rng.spawn(1)[0])  # which refuses genes and batches that the encoder does not know
        return self

    def draw(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Decode one posterior draw of each row; those of group -1 are left as they are."""
        check_fitted(self, "encoder_")
        out = self.expression_.read(rows)
        if (treated := np.flatnonzero(self.expression_.group[rows] >= 0)).size:
            # the decoder has an order of genes of its own; genes that it does not know stay as they are
            places = self.expression_.genes.get_indexer(self.encoder_.genes_)
            known = np.flatnonzero(places >= 0)
            out[np.ix_(treated, places[known])] = np.log1p(self._denoised(rows[treated], rng)[:, known])
        return out

    def _denoised(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        adata = self.expression_.adata(rows, self.encoder_.batch_key or BATCH, self.encoder_.layer)
        return self.encoder_.denoise(adata, mode=self.mode, rng=rng)
