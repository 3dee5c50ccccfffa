"""The transformer of scGPT (Cui et al. 2024), from expression to the embedding of its <cls> token."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semiclip._arguments import check_number, check_whole
from semiclip.errors import BadValue

MAX_VALUE = 512  # the value encoder takes larger values for this one
LEAST = {"n_input": 1, "n_hidden": 1, "n_output": 1, "n_layers": 1, "n_heads": 1, "n_bins": 3, "max_length": 2}


class ScGPTNetwork(nn.Module):
    """Embeds a sample on the unit sphere: <cls>, with the value ``pad_value``, and its most expressed genes are tokens.

    A token is the sum of the embeddings of its gene (row i for column i, the last for <cls>) and its binned expression.
    """

    capturable = False  # the host must be told how long the longest sample is
    block_rows = 64  # each token of a row takes some 25 bytes for each dimension

    def __init__(
        self,
        n_input: int,
        n_hidden: int,
        n_output: int,
        *,
        n_layers: int,
        n_heads: int,
        n_bins: int = 51,
        max_length: int = 1200,
        pad_value: float = -2,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        sizes = locals()
        for name, least in LEAST.items():
            check_whole(name, sizes[name], least)
        if n_output % n_heads:
            raise BadValue("n_output", n_output, f"a multiple of n_heads={n_heads}")
        check_number("pad_value", pad_value)
        check_number("dropout", dropout, least=0, below=1)
        self.n_input, self.n_bins, self.max_length, self.pad_value = n_input, n_bins, max_length, pad_value
        # the parts have the names that their weights have in a checkpoint
        embedding = nn.Embedding(n_input + 1, n_output)
        self.encoder = nn.Sequential(OrderedDict(embedding=embedding, enc_norm=nn.LayerNorm(n_output)))
        first, second = nn.Linear(1, n_output), nn.Linear(n_output, n_output)
        rest = {"norm": nn.LayerNorm(n_output), "dropout": nn.Dropout(dropout)}
        self.value_encoder = nn.Sequential(OrderedDict(linear1=first, activation=nn.ReLU(), linear2=second, **rest))
        layers = nn.ModuleList(Layer(n_output, n_hidden, n_heads, dropout) for _ in range(n_layers))
        self.transformer_encoder = nn.ModuleDict({"layers": layers})

    def forward(self, expression: Tensor) -> Tensor:
        """Embed non-negative expression (n, n_input) as unit vectors (n, n_output)."""
        genes, bins, kept = read_tokens(expression, self.n_bins, self.max_length - 1)
        genes, kept = F.pad(genes, (1, 0), value=self.n_input), F.pad(kept, (1, 0), value=True)
        values = F.pad(bins.to(expression.dtype), (1, 0), value=self.pad_value).clamp(max=MAX_VALUE)
        states = self.encoder(genes) + self.value_encoder(values.unsqueeze(-1))
        for layer in self.transformer_encoder["layers"].children():
            states = layer(states, kept)
        return F.normalize(states[:, 0], dim=-1)


class Layer(nn.Module):
    """Self-attention (torch's own layer holds all scores in memory) and a feed-forward part, each normalised."""

    def __init__(self, width: int, n_hidden: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.self_attn = nn.ModuleDict({"Wqkv": nn.Linear(width, 3 * width), "out_proj": nn.Linear(width, width)})
        self.linear1, self.linear2 = nn.Linear(width, n_hidden), nn.Linear(n_hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, kept: Tensor) -> Tensor:
        """Return new states (n, length, width); only tokens in the mask ``kept`` (n, length) are attended to."""
        query, key, value = self.self_attn["Wqkv"](states).unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        dropout = self.dropout.p if self.training else 0.0
        heads = F.scaled_dot_product_attention(query, key, value, attn_mask=kept[:, None, None], dropout_p=dropout)
        attended = self.self_attn["out_proj"](heads.transpose(1, 2).flatten(2))
        states = self.norm1(states + self.dropout(attended))
        hidden = self.dropout(self.linear1(states).relu())
        return self.norm2(states + self.dropout(self.linear2(hidden)))


@torch.no_grad()
def read_tokens(expression: Tensor, n_bins: int, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return columns of the ``most`` expressed genes of each sample, their bins from 1 up, and a mask of no padding."""
    ordered, genes = expression.sort(dim=1, descending=True, stable=True)
    expressed = (expression != 0).sum(1, keepdim=True)
    length = min(most, int(expressed.max())) if len(expression) else 0
    values, genes = ordered[:, :length].contiguous(), genes[:, :length]
    # edges are quantiles of all expressed values of a sample, so that bins do not depend on depth; a value that equals
    # several edges, as is common in counts, gets the middle of their bins, the lower of two, where scGPT draws one
    last = (expressed - 1).clamp(min=0)  # the position of the smallest expressed value
    # in whole numbers, so that an edge that is a value is exactly that value
    ranks = torch.arange(n_bins - 1, device=expression.device) * last
    rank, rest = ranks // (n_bins - 2), ranks % (n_bins - 2) / (n_bins - 2)
    lower, upper = ordered.gather(1, last - rank), ordered.gather(1, (last - rank - 1).clamp(min=0))
    edges = lower + (upper - lower) * rest
    bins = (torch.searchsorted(edges, values) + torch.searchsorted(edges, values, right=True) + 1) // 2
    return genes, bins, torch.arange(length, device=expression.device) < expressed
