"""FLOPs of a transformer's passes, and what chips can do at most.

FLOPs are those that the mathematics needs, whatever was computed again for checkpointing:

    forward  = 2 · body · T  +  2 · hidden · vocabulary · H  +  2 · layers · width · Σ ℓ²
    trained  = 3 · forward       (that is 6 · N · T and the attention's)

T counts tokens, H those at which the head is needed (answers), ℓ each sequence's tokens, body the
weights without embeddings and head; attention is causal: half of QKᵀ and AV (Kaplan et al. 2020,
section 2.1; Chowdhery et al. 2022, appendix B, who count it whole).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

PEAK_TFLOPS = {"H100 PCIe": 756.0, "H100 NVL": 835.0, "H100": 989.0, "H200": 989.0, "A100": 312.0}
"""Dense bf16 TFLOP/s by a part of the device's name, the first that fits: NVIDIA's data sheets of
H100 (SXM 1,979, NVL 1,671, PCIe 1,513 with sparsity, halved), H200 (1,979) and A100 (312)."""


class Shape(NamedTuple):
    """What the formula needs of a model. `width` is heads times their size."""

    body: int
    hidden: int
    vocabulary: int
    layers: int
    width: int

    def forward(self, lengths: Sequence[int], *, num_head: int) -> float:
        """FLOPs of a forward pass over sequences, with the head at `num_head` places.

        Two sequences of 3: 2·10·6 + 2·2·5·1 + 2·1·4·(9 + 9) = 120 + 20 + 144.

        >>> Shape(body=10, hidden=2, vocabulary=5, layers=1, width=4).forward([3, 3], num_head=1)
        284.0
        """
        products = 2 * self.body * sum(lengths)
        head = 2 * self.hidden * self.vocabulary * num_head
        attention = 2 * self.layers * self.width * sum(length**2 for length in lengths)
        return float(products + head + attention)


class Measured(NamedTuple):
    """One kind of work: what was done, in how many seconds."""

    name: str
    num_tokens: int
    flops: float
    seconds: float

    def line(self, peak: float | None) -> str:
        """Figures, with the share of the chip's peak where that is known."""
        achieved = self.flops / self.seconds / 1e12
        share = "" if peak is None else f", {achieved / peak:.1%} of {peak:g}"
        return (
            f"{self.name:<28} {self.num_tokens / self.seconds:>10,.0f} tokens/s "
            f"{achieved:>8.3g} TFLOP/s{share}"
        )


def peak_of(name: str) -> float | None:
    """Dense bf16 TFLOP/s of a device, None for one that is not in the table."""
    return next((peak for part, peak in PEAK_TFLOPS.items() if part in name), None)
