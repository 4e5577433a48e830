"""The actions that the policy may choose for a frame, their order and their costs.

Axes: N videos, T frames, A actions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

FLOAT_BITS = 32
FRAME_SIZE = 224  # short side of the paper's frames
GRID_SHIFT = 1 / 64
"""Steps by which the levels of a quantized frame lie lower if it was resized. Averages of pixels are fractions such as
k/4, which would lie exactly between two levels where these are the pixels' own, and be rounded by their last digit."""


def paper_cost(bits: int) -> float:
    """``min(bits, 8)**2 / 64``: 32 and 8 -> 1, 4 -> 1/4, 2 -> 1/16. Float is billed like 8 bits."""
    return min(bits, 8) ** 2 / 64


def bitops_cost(bits: int) -> float:
    """``(bits / 32)**2``: weight bits x activation bits relative to float."""
    return (bits / FLOAT_BITS) ** 2


def load_latency_table(path: str | Path) -> dict[str, float]:
    """Read a JSON file ``{action name: milliseconds}``, or what ``tools/benchmark.py latency`` writes.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: not JSON, not such an object, or a time that is negative or not finite; names the file.
    """
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"latency table {path} does not exist; tools/benchmark.py latency writes one"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"latency table {path} is not JSON: {error}") from None
    if isinstance(table, dict) and isinstance(table.get("actions"), dict):
        table = table["actions"]
    if not isinstance(table, dict) or not table:
        raise ValueError(f"latency table {path} must be a JSON object {{action name: milliseconds}}")
    for name, time in table.items():
        if isinstance(time, bool) or not isinstance(time, (int, float)) or not 0 <= time < math.inf:
            raise ValueError(
                f"latency table {path}: {name!r} must be a time >= 0 in milliseconds, got {time!r}"
            )
    return {name: float(time) for name, time in table.items()}


COST_RULES = {"paper": paper_cost, "bitops": bitops_cost}


@dataclass(frozen=True, kw_only=True)
class Action:
    """One choice for a frame: process it at a precision and a size, or skip it (and frames after it).

    Source: arXiv:2108.10394 (precisions and skip; several skip lengths as in its release).

    Args:
        bits: precision in 1..32. Exactly one of ``bits`` and ``skip`` is given.
        skip: this frame and the next ``skip - 1`` frames are skipped; 0 means the frame is processed.
        size: short side to which the frame is resized before the network, >= 1; None is the frame's own.
        separate: a separate float network, not the any-precision one, processes the frame; needs ``bits=32``.

    Raises:
        TypeError: a field has another type.
        ValueError: a field is out of range, or none or both of ``bits`` and ``skip`` are given.

    >>> [Action(bits=4).name, Action(bits=4, size=112).name, Action(bits=32, separate=True).name]
    ['4', '4@112', '32fp']
    >>> [Action(skip=1).name, Action(skip=2).name]
    ['skip', 'skip2']
    """

    bits: int | None = None
    skip: int = 0
    size: int | None = None
    separate: bool = False

    def __post_init__(self) -> None:
        if self.bits is not None and type(self.bits) is not int:
            raise TypeError(f"Action bits must be an int in 1..32, got {self.bits!r}")
        if type(self.skip) is not int:
            raise TypeError(f"Action skip must be an int >= 1, got {self.skip!r}")
        if type(self.separate) is not bool:
            raise TypeError(f"Action separate must be True or False, got {self.separate!r}")
        if self.size is not None and type(self.size) is not int:
            raise TypeError(f"Action size must be an int >= 1, got {self.size!r}")
        if self.skip < 0:
            raise ValueError(f"Action skip must be >= 1, got {self.skip}")
        if (self.bits is None) == (self.skip == 0):
            raise ValueError(
                "Action needs exactly one of bits (1..32) and skip (>= 1), "
                f"got bits={self.bits}, skip={self.skip}"
            )
        if self.bits is not None and not 1 <= self.bits <= 32:
            raise ValueError(f"Action bits must be in 1..32, got {self.bits}")
        if self.separate and self.bits != 32:
            raise ValueError(
                f"Action separate=True is a float network and needs bits=32, got bits={self.bits}"
            )
        if self.size is not None and (self.size < 1 or self.is_skip or self.separate):
            raise ValueError(
                "Action size must be >= 1, of an action with bits and without separate, "
                f"got size={self.size}, bits={self.bits}, separate={self.separate}"
            )

    @property
    def is_skip(self) -> bool:
        return self.skip > 0

    @property
    def name(self) -> str:
        if self.is_skip:
            return "skip" if self.skip == 1 else f"skip{self.skip}"
        if self.separate:
            return f"{self.bits}fp"
        return f"{self.bits}" if self.size is None else f"{self.bits}@{self.size}"

    @property
    def mode(self) -> int | str | None:
        """What the any-precision network runs in: ``8``, or ``"8@112"`` with a size; None if it does not run."""
        if self.bits is None or self.separate:
            return None
        return self.bits if self.size is None else self.name

    def to_cfg(self) -> dict[str, Any]:
        """The fields that were given."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}


def resized_shape(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width of a frame whose short side is resized to ``size``, its aspect kept; halves are rounded up.

    Raises:
        ValueError: ``size`` is larger than the frame.

    >>> resized_shape(224, 224, 112), resized_shape(240, 427, 112)
    ((112, 112), (112, 199))
    """
    short = min(height, width)
    if size > short:
        raise ValueError(f"size {size} is larger than the frame ({height}x{width}): use at most {short}")
    return (2 * height * size + short) // (2 * short), (2 * width * size + short) // (2 * short)


class ActionSpace:
    """The codebook of actions: their order, names and relative costs.

    Order: an action with ``separate`` first, then precisions high to low, of the same precision the frame's own size
    and then large to small, then skips short to long.

    Args:
        actions: actions, or dicts of :class:`Action`'s fields.
        cost: ``"paper"`` (``min(bits, 8)**2 / 64``, arXiv:2108.10394), ``"bitops"`` (``(bits / 32)**2``), both times
            ``(size / frame_size)**2``, or the path of a JSON latency table ``{action name: milliseconds}``; a table's
            figures are divided by the largest one in use; a skip may be omitted (0).
        frame_size: short side of the frames, of which sizes are a part.

    Attributes:
        actions, names: length A.
        costs: length A, in [0, 1]; a skip costs 0 under both rules.
        precisions: bits of the any-precision network's actions, high to low.
        modes: :attr:`Action.mode` of these actions.
        skip_mask: length A, True for skips.
        skip_lengths: length A, frames skipped by each action; 0 for a processed frame.

    Raises:
        ValueError: empty, repeated, wrongly ordered, only skips, an unknown field, cost rule or table entry.

    >>> space = ActionSpace([dict(bits=32), dict(bits=4), dict(bits=2), dict(skip=1)])
    >>> space.names, space.costs
    (('32', '4', '2', 'skip'), (1.0, 0.25, 0.0625, 0.0))
    """

    def __init__(
        self,
        actions: Sequence[Action | Mapping[str, Any]],
        cost: str = "paper",
        frame_size: int = FRAME_SIZE,
    ) -> None:
        if isinstance(actions, (str, bytes, Mapping)) or not isinstance(actions, Sequence):
            raise TypeError(
                f"ActionSpace actions must be a list of Action or dict, got {type(actions).__name__}"
            )
        self.actions = tuple(_as_action(a) for a in actions)
        self.names = tuple(a.name for a in self.actions)
        if type(frame_size) is not int or frame_size < 1:
            raise ValueError(f"ActionSpace frame_size must be an int >= 1, got {frame_size!r}")
        self.frame_size = frame_size
        self._validate()
        self.cost = cost
        self.costs = self._relative_costs(cost)
        self.modes = tuple(a.mode for a in self.actions if a.mode is not None)
        self.precisions = tuple(dict.fromkeys(a.bits for a in self.actions if a.bits and not a.separate))
        self.skip_mask = tuple(a.is_skip for a in self.actions)
        self.skip_lengths = tuple(a.skip for a in self.actions)

    @classmethod
    def from_cfg(
        cls, cfg: ActionSpace | Sequence[Action | Mapping[str, Any]] | Mapping[str, Any]
    ) -> ActionSpace:
        """An ActionSpace as it is, or one from a list of actions or a dict of the arguments."""
        if isinstance(cfg, cls):
            return cfg
        if not isinstance(cfg, Mapping):
            return cls(cfg)  # type: ignore[arg-type]
        if "actions" not in cfg or not set(cfg) <= {"actions", "cost", "frame_size"}:
            raise ValueError(
                f"actions config must hold 'actions' and may hold 'cost' and 'frame_size', got keys {sorted(cfg)}"
            )
        return cls(**cfg)  # type: ignore[arg-type]

    def to_cfg(self) -> dict[str, Any]:
        """What :meth:`from_cfg` makes it from."""
        return dict(actions=[a.to_cfg() for a in self.actions], cost=self.cost, frame_size=self.frame_size)

    def __len__(self) -> int:
        return len(self.actions)

    def __iter__(self) -> Iterator[Action]:
        return iter(self.actions)

    def __getitem__(self, index: int) -> Action:
        return self.actions[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ActionSpace):
            return NotImplemented
        return self.actions == other.actions and self.costs == other.costs

    def __hash__(self) -> int:
        return hash((self.actions, self.costs))

    def __repr__(self) -> str:
        return f"ActionSpace({', '.join(self.names)}; cost={self.cost})"

    def index(self, name_or_bits: str | int) -> int:
        """Position of an action, by name (``"4"``, ``"skip"``, ``"32fp"``) or by the bits of a precision."""
        name = str(name_or_bits)
        if name not in self.names:
            raise ValueError(
                f"no action {name_or_bits!r} in the action space; it has {', '.join(self.names)}"
            )
        return self.names.index(name)

    def check_modes(self, modes: Sequence[int | str]) -> None:
        """ValueError if an action needs a mode that is not among a backbone's ``modes``."""
        unknown = [mode for mode in self.modes if mode not in modes]
        if unknown:
            raise ValueError(
                f"actions ask for {_listed(unknown)}, but the backbone's precisions are {_listed(modes)}: "
                "use those that it was trained with"
            )

    def check_frames(self, height: int, width: int) -> None:
        """ValueError if there are sizes, and frames are not of the size that these are a part of."""
        if any(a.size for a in self.actions) and min(height, width) != self.frame_size:
            raise ValueError(
                f"actions: sizes are relative to frames of {self.frame_size}, the frame is {height}x{width}: "
                f"set frame_size={min(height, width)}, actions=dict(actions=[...], frame_size=...)"
            )

    def usage(self, actions: Any) -> np.ndarray:
        """Share of each action.

        Args:
            actions: integers in [0, A), any shape, array or tensor.

        Returns: (A,) float64, sums to 1.
        """
        indices = self.indices(actions)
        if indices.size == 0:
            raise ValueError("usage of an empty array of actions is not defined")
        return np.bincount(indices.reshape(-1), minlength=len(self)) / indices.size

    def indices(self, actions: Any) -> np.ndarray:
        """``actions`` (array or tensor on any device) as int64, checked to lie in [0, A)."""
        if hasattr(actions, "detach"):
            actions = actions.detach().cpu().numpy()
        array = np.asarray(actions)
        if array.size and array.dtype.kind not in "iu":
            raise TypeError(f"actions must be integers, got {array.dtype}")
        if array.size and not (array.min() >= 0 and array.max() < len(self)):
            raise ValueError(f"actions must be in 0..{len(self) - 1}, got {array.min()}..{array.max()}")
        return array.astype(np.int64)

    def _validate(self) -> None:
        if not self.actions:
            raise ValueError("ActionSpace actions is empty; give at least one precision")
        shown = ", ".join(self.names)
        repeated = sorted({n for n in self.names if self.names.count(n) > 1})
        if repeated:
            raise ValueError(f"ActionSpace actions repeat {', '.join(repeated)}: got {shown}")
        if all(a.is_skip for a in self.actions):
            raise ValueError(f"ActionSpace actions hold only skips ({shown}); give at least one precision")
        order = sort_actions(self.actions)
        if tuple(order) != self.actions:
            raise ValueError(
                "ActionSpace actions must be ordered: separate, precisions high to low, sizes large to small, "
                f"skips short to long; got {shown}, expected {', '.join(a.name for a in order)}"
            )
        for action in self.actions:
            if action.size is not None and action.size > self.frame_size:
                raise ValueError(
                    f"action {action.name}: size {action.size} is larger than the frame, "
                    f"whose short side is frame_size={self.frame_size}"
                )

    def _relative_costs(self, cost: str) -> tuple[float, ...]:
        if not isinstance(cost, str):
            raise TypeError(f"ActionSpace cost must be 'paper', 'bitops' or a path, got {cost!r}")
        if cost in COST_RULES:
            rule, frame = COST_RULES[cost], self.frame_size
            return tuple(
                0.0 if a.bits is None else rule(a.bits) * ((a.size or frame) ** 2 / frame**2)
                for a in self.actions
            )
        if not cost.endswith(".json"):
            raise ValueError(
                f"ActionSpace cost must be 'paper', 'bitops' or a path to a .json table, got {cost!r}"
            )
        table = load_latency_table(cost)
        missing = [a.name for a in self.actions if a.name not in table and not a.is_skip]
        if missing:
            raise ValueError(
                f"latency table {cost} lacks {', '.join(missing)}; it has {', '.join(sorted(table))}: "
                "measure again with tools/benchmark.py latency"
            )
        times = [table.get(name, 0.0) for name in self.names]
        if max(times) == 0:
            raise ValueError(f"latency table {cost}: all times of {', '.join(self.names)} are 0")
        return tuple(t / max(times) for t in times)


def _as_action(action: Action | Mapping[str, Any]) -> Action:
    if isinstance(action, Action):
        return action
    if not isinstance(action, Mapping):
        raise TypeError(f"an action must be an Action or a dict such as dict(bits=4), got {action!r}")
    known = [f.name for f in fields(Action)]
    unknown = sorted(set(action) - set(known))
    if unknown:
        raise ValueError(f"unknown action field {', '.join(unknown)}; known are {', '.join(known)}")
    return Action(**action)


def _listed(modes: Sequence[int | str]) -> str:
    return ", ".join(map(str, modes))


def sort_actions(actions: Sequence[Action]) -> list[Action]:
    """``actions`` in the order of an action space."""
    return sorted(
        actions,
        key=lambda a: (a.is_skip, not a.separate, -(a.bits or 0), -(a.size or math.inf), a.skip),
    )


def action_of(name: str) -> Action:
    """The action with this name; the inverse of ``Action.name``."""
    if name.startswith("skip"):
        return Action(skip=int(name[4:] or 1))
    bits, _, size = name.removesuffix("fp").partition("@")
    return Action(bits=int(bits), size=int(size) if size else None, separate=name.endswith("fp"))
