"""Features of a frozen backbone, computed once per different clip."""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor


class FeatureCache:
    """Caches ``compute(clips)`` row by row, keyed by the content of each clip.

    Use it with deterministic pipelines: augmented clips differ in each epoch and only fill memory.
    Hashing copies the clips to the CPU, which waits for a GPU.

    Args:
        max_bytes: no more rows are kept once they reach this size.
    """

    def __init__(self, max_bytes: int = 2**31) -> None:
        self.max_bytes = max_bytes
        self.held_bytes = 0
        self._rows: dict[bytes, Tensor] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def clear(self) -> None:
        """Remove all rows; call it when the weights that ``compute`` uses change."""
        self._rows.clear()
        self.held_bytes = 0

    def __call__(self, clips: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Rows of ``compute`` for ``clips`` (N, ...); only clips not seen before are computed."""
        keys = [hashlib.blake2b(clip.numpy().tobytes(), digest_size=16).digest() for clip in clips.cpu()]
        missing = [i for i, key in enumerate(keys) if key not in self._rows and key not in keys[:i]]
        fresh: dict[bytes, Tensor] = {}
        if missing:
            rows = compute(clips[missing]).detach().cpu()
            fresh = {keys[i]: row.clone() for i, row in zip(missing, rows, strict=True)}
            for key, row in fresh.items():
                size = row.numel() * row.element_size()
                if self.held_bytes + size <= self.max_bytes:
                    self._rows[key] = row
                    self.held_bytes += size
        kept = [fresh[key] if key in fresh else self._rows[key] for key in keys]
        return torch.stack(kept).to(clips.device)
