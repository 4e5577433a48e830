"""From state dict to state dict: which tensor goes where (``Entry``), with checks."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmvideoiq.checkpoint.layers import Layer

State = Mapping[str, Tensor]

NORM_LEAVES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Entry:
    """``target`` is filled from ``sources`` (several must be equal) of ``shape``."""

    target: str
    sources: tuple[str, ...]
    shape: tuple[int, ...]


def layer_entries(target: str, conv: str, norm: str, layer: Layer) -> Iterator[Entry]:
    yield Entry(f"{target}.conv.weight", (f"{conv}.weight",), layer.shape)
    yield from norm_entries(f"{target}.bn", norm, layer)


def norm_entries(target: str, source: str, layer: Layer) -> Iterator[Entry]:
    for leaf in NORM_LEAVES:
        yield Entry(f"{target}.{leaf}", (f"{source}.{leaf}",), norm_shape(leaf, layer))


def norm_shape(leaf: str, layer: Layer) -> tuple[int, ...]:
    return () if leaf == "num_batches_tracked" else layer.shape[:1]


def linear_entries(target: str, source: str, rows: int, columns: int) -> Iterator[Entry]:
    yield Entry(f"{target}.weight", (f"{source}.weight",), (rows, columns))
    yield Entry(f"{target}.bias", (f"{source}.bias",), (rows,))


def collect(state: State, entries: Sequence[Entry]) -> dict[str, Tensor]:
    """The tensors of ``state`` under the entries' targets, each checked."""
    require(state, [s for e in entries for s in e.sources if not s.endswith(".num_batches_tracked")])
    out = {}
    for entry in entries:
        found = [
            state[s] if s in state else torch.tensor(0) for s in entry.sources
        ]  # num_batches_tracked is missing before torch 0.4.1
        value = found[0]
        if entry.shape == (1,) and value.ndim == 0:
            found = [value := value.reshape(1)]
        if tuple(value.shape) != entry.shape:
            raise ValueError(f"{entry.sources[0]} has shape {tuple(value.shape)}, expected {entry.shape}")
        if any(not torch.equal(value, other) for other in found[1:]):
            raise ValueError(
                f"{entry.sources[0]} is shared by all precisions, but the file holds different values"
            )
        out[entry.target] = value.detach().clone()
    return out


def complete(converted: State, fresh: State, allow: Sequence[str]) -> dict[str, Tensor]:
    """``converted`` in the order of ``fresh``, a new model's state, which supplies the tensors named by ``allow``.

    Raises:
        ValueError: names that only one of them has (unless a part of ``allow`` is in the name), or other shapes.
    """
    missing = [n for n in fresh if n not in converted and not any(part in n for part in allow)]
    if missing:
        raise ValueError(f"names missing: {few(missing)}")
    refuse_unknown(converted, set(fresh))
    for name, value in converted.items():
        if value.shape != fresh[name].shape:
            raise ValueError(f"{name} has shape {tuple(value.shape)}, the model {tuple(fresh[name].shape)}")
    return {name: converted.get(name, value).clone() for name, value in fresh.items()}


def require(state: State, names: Iterable[str]) -> None:
    missing = [name for name in names if name not in state]
    if missing:
        raise ValueError(f"names missing: {few(missing)}")


def refuse_unknown(state: State, known: set[str]) -> None:
    unknown = [name for name in state if name not in known]
    if unknown:
        raise ValueError(f"unknown layout: names not known: {few(unknown)}")


def few(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
