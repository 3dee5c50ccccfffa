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
            If values are not counts, or the encoder that was given does not know the genes or the batches; this
            augmentation is then as it was.
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
        _, first = np.unique(expression.batch, return_index=True)
        # which refuses genes and batches that the encoder does not know
        _denoised(expression, encoder, first, mode=self.mode, rng=rng.spawn(1)[0])
        self.expression_, self.encoder_ = expression, encoder
        return self

    def draw(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Decode one posterior draw of each row; those of group -1 are left as they are.

        Genes that the encoder does not know stay as they are as well, and the others keep what they have of a row's
        10,000 counts together.
        """
        check_fitted(self, "encoder_")
        expression, encoder = self.expression_, self.encoder_
        out = expression.read(rows)
        if (treated := np.flatnonzero(expression.group[rows] >= 0)).size:
            places = expression.genes.get_indexer(encoder.genes_)  # the decoder has an order of genes of its own
            known = places >= 0
            where = np.ix_(treated, places[known])
            decoded = _denoised(expression, encoder, rows[treated], mode=self.mode, rng=rng)[:, known]
            kept, total = (x.sum(axis=1, keepdims=True, dtype=np.float64) for x in (np.expm1(out[where]), decoded))
            out[where] = np.log1p(decoded * np.divide(kept, total, out=np.zeros_like(kept), where=total > 0))
        return out


def _denoised(
    expression: Expression,
    encoder: SCVIEncoder,
    rows: np.ndarray,
    *,
    mode: Literal["mean", "ppc"],
    rng: np.random.Generator,
) -> np.ndarray:
    adata = expression.adata(rows, encoder.batch_key or BATCH, encoder.layer)
    return encoder.denoise(adata, mode=mode, rng=rng)
