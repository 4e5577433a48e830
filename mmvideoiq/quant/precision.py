"""The owner of the active mode, which the layers read; no attribute of a layer holds it.

A *mode* is a precision and a size of the frame: ``8`` is 8 bits at the frame's own size, ``"8@112"`` the same after
resizing the frame's short side to 112.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

FLOAT_BITS = 32

Mode = int | str


def split_mode(mode: Mode) -> tuple[int, int | None]:
    """Bits and size of a mode; size None is the frame's own.

    >>> split_mode(8), split_mode("8@112")
    ((8, None), (8, 112))
    """
    bits, _, size = str(mode).partition("@")
    return int(bits), int(size) if size else None


def mode_order(mode: Mode) -> tuple[float, float]:
    """Sort key: bits high to low, at the same bits the frame's own size and then large to small."""
    bits, size = split_mode(mode)
    return -bits, -(size or math.inf)


def check_precisions(precisions: Sequence[int]) -> tuple[int, ...]:
    """Return ``precisions`` as a tuple; ValueError unless integers in 1..32, strictly descending."""
    bits, sizes = zip(*map(split_mode, check_modes(precisions)), strict=True)
    if any(sizes):
        raise ValueError(f"precisions={tuple(precisions)} must be numbers of bits, without sizes")
    return bits


def check_modes(precisions: Sequence[Any]) -> tuple[Mode, ...]:
    """Return the modes that ``precisions`` lists.

    Args:
        precisions: bits in 1..32, or modes of another size as ``dict(bits=8, size=112)`` or ``"8@112"``; in the order
            of :func:`mode_order`.

    Raises:
        ValueError: anything else, repetition or another order.
    """
    if isinstance(precisions, (int, str)):
        raise ValueError(f"precisions={precisions!r} must be a list, e.g. (32, 4, 2)")
    values = tuple(map(_as_mode, precisions))
    if not values:
        raise ValueError("precisions is empty; give at least one number of bits, e.g. (32, 4, 2)")
    for value in values:
        named = isinstance(value, str) and re.fullmatch(r"[1-9]\d*@[1-9]\d*", value)
        if not (named or type(value) is int) or not 1 <= split_mode(value)[0] <= FLOAT_BITS:
            raise ValueError(
                f"precisions={values}: {value!r} is not a whole number of bits in 1..{FLOAT_BITS}, "
                "nor dict(bits=..., size=...)"
            )
    if list(values) != sorted(set(values), key=mode_order):
        raise ValueError(
            f"precisions={values} must go from high to low without repetition, "
            f"e.g. {tuple(sorted(set(values), key=mode_order))}"
        )
    return values


def _as_mode(value: Any) -> Any:
    if isinstance(value, Mapping) and "bits" in value and set(value) <= {"bits", "size"}:
        bits, size = value["bits"], value.get("size")
        return bits if size is None else f"{bits}@{size}"
    return value


class PrecisionSwitch:
    """Holds the active mode of every any-precision layer that was given this switch.

    Args:
        precisions: of :func:`check_modes`.

    Attributes:
        modes: high to low.
        precisions: their bits, high to low.
        sizes: the sizes of the modes, in their order; None is the frame's own.

    >>> switch = PrecisionSwitch((32, 4, "4@112"))
    >>> with switch.at("4@112"):
    ...     switch.bits, switch.size
    (4, 112)
    >>> switch.bits, switch.size
    (32, None)
    """

    def __init__(self, precisions: Sequence[Any]) -> None:
        self.modes = check_modes(precisions)
        bits, sizes = zip(*map(split_mode, self.modes), strict=True)
        self.precisions: tuple[int, ...] = tuple(dict.fromkeys(bits))
        self.sizes: tuple[int | None, ...] = tuple(dict.fromkeys(sizes))
        self._activate(self.modes[0])
        self.shared: dict[Any, Any] | None = None  # values that layers share inside `together`

    @property
    def mode(self) -> Mode:
        """The active mode; the highest one unless inside :meth:`at`."""
        return self._mode

    @property
    def bits(self) -> int:
        """The active precision."""
        return self._bits

    @property
    def size(self) -> int | None:
        """The active size; None is the frame's own."""
        return self._size

    def _activate(self, mode: Mode) -> None:
        self._mode = mode
        self._bits, self._size = split_mode(mode)

    @contextmanager
    def at(self, mode: Mode) -> Iterator[None]:
        """Make ``mode`` the active one inside the ``with`` block; ValueError if it is not listed."""
        if mode not in self.modes:
            raise ValueError(f"precision {mode!r} is not one of {self.modes}")
        before = self._mode
        self._activate(mode)
        try:
            yield
        finally:
            self._activate(before)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Context in which the same weights are read in several modes: layers compute the common part once.

        Weights must not change inside; call ``backward`` afterwards.
        """
        before, self.shared = self.shared, {}
        try:
            yield
        finally:
            self.shared = before

    def __repr__(self) -> str:
        return f"PrecisionSwitch({self.modes}, mode={self.mode})"
