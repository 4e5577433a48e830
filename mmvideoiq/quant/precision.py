"""The owner of the active precision, which the layers read; no attribute of a layer holds it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

FLOAT_BITS = 32


def check_precisions(precisions: Sequence[int]) -> tuple[int, ...]:
    """Return ``precisions`` as a tuple; ValueError unless integers in 1..32, strictly descending."""
    if isinstance(precisions, (int, str)):
        raise ValueError(f"precisions={precisions!r} must be a list, e.g. (32, 4, 2)")
    values = tuple(precisions)
    if not values:
        raise ValueError("precisions is empty; give at least one number of bits, e.g. (32, 4, 2)")
    for bits in values:
        if not isinstance(bits, int) or isinstance(bits, bool) or not 1 <= bits <= FLOAT_BITS:
            raise ValueError(
                f"precisions={values}: {bits!r} is not a whole number of bits in 1..{FLOAT_BITS}"
            )
    if list(values) != sorted(set(values), reverse=True):
        raise ValueError(
            f"precisions={values} must go from high to low without repetition, "
            f"e.g. {tuple(sorted(set(values), reverse=True))}"
        )
    return values


class PrecisionSwitch:
    """Holds the active precision of every any-precision layer that was given this switch.

    >>> switch = PrecisionSwitch((32, 4, 2))
    >>> with switch.at(4):
    ...     switch.bits
    4
    >>> switch.bits
    32
    """

    def __init__(self, precisions: Sequence[int]) -> None:
        self.precisions = check_precisions(precisions)
        self._bits = self.precisions[0]
        self.shared: dict[Any, Any] | None = None  # values that layers share inside `together`

    @property
    def bits(self) -> int:
        """The active precision; the highest one unless inside :meth:`at`."""
        return self._bits

    @contextmanager
    def at(self, bits: int) -> Iterator[None]:
        """Make ``bits`` the active precision inside the ``with`` block; ValueError if it is not listed."""
        if bits not in self.precisions:
            raise ValueError(f"precision {bits!r} is not one of {self.precisions}")
        before, self._bits = self._bits, bits
        try:
            yield
        finally:
            self._bits = before

    @contextmanager
    def together(self) -> Iterator[None]:
        """Context in which the same weights are read at several precisions: layers compute the common part once.

        Weights must not change inside; call ``backward`` afterwards.
        """
        before, self.shared = self.shared, {}
        try:
            yield
        finally:
            self.shared = before

    def __repr__(self) -> str:
        return f"PrecisionSwitch({self.precisions}, bits={self.bits})"
