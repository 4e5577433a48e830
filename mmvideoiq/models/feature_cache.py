"""Features of a frozen backbone, computed once per different clip."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mmvideoiq.fileio import atomic_write

KEY_BYTES = 16


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
        keys = [
            hashlib.blake2b(clip.numpy().tobytes(), digest_size=KEY_BYTES).digest() for clip in clips.cpu()
        ]
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

    def save(self, path: Path, source: str) -> None:
        """Write all rows to a safetensors file; ``source`` says what computed them (:func:`digest`)."""
        groups: dict[tuple, list[bytes]] = {}
        for key, row in self._rows.items():
            groups.setdefault((row.dtype, *row.shape), []).append(key)
        tensors = {}
        for number, keys in enumerate(groups.values()):
            flat = torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8)
            tensors[f"keys.{number}"] = flat.reshape(-1, KEY_BYTES)
            tensors[f"rows.{number}"] = torch.stack([self._rows[key] for key in keys])
        with atomic_write(path) as part:
            save_file(tensors, part, metadata=dict(source=source))

    def load(self, path: Path, source: str) -> int:
        """Add the rows of a file, and return how many there are: 0 if there is none or something else computed them.

        Raises:
            ValueError: the file is damaged.
        """
        if not path.is_file():
            return 0
        try:
            with safe_open(path, "pt") as file:
                if (file.metadata() or {}).get("source") != source:
                    return 0
                groups = [
                    (file.get_tensor(name), file.get_tensor(name.replace("keys", "rows")))
                    for name in file.keys()
                    if name.startswith("keys.")
                ]
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is damaged, delete it: {error}") from None
        count = 0
        for keys, rows in groups:
            for key, row in zip(keys, rows, strict=True):
                size = row.numel() * row.element_size()
                if self.held_bytes + size > self.max_bytes:
                    return count
                self._rows[bytes(key.tolist())] = row.clone()
                self.held_bytes += size
                count += 1
        return count


def digest(network: nn.Module, *settings: object) -> str:
    """What computes features, in hexadecimal: a network's tensors and other settings."""
    digest = hashlib.blake2b(repr(settings).encode(), digest_size=KEY_BYTES)
    for name, value in network.state_dict().items():
        digest.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
