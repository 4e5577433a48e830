"""What every engine offers: it builds a part of a bundle at a precision, which then runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from mmvideoiq.deploy.bundle.bundle import Bundle


class EngineError(ValueError):
    """An engine is unknown, not installed, or cannot build a graph: one line that says what to do."""


class Runner(Protocol):
    """One part of a bundle at one precision, ready to run."""

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The graph's outputs by name, float32. ``inputs``: by name, shaped as the graph says, any N."""


class Engine(Protocol):
    """Attributes: ``name``; ``threads`` that share the work of one call; ``float_precision``, 'f32' or 'bf16', of what
    is computed in floats (see :func:`.factory.open_engine`)."""

    name: str
    threads: int
    float_precision: str

    def load(self, bundle: Bundle, part: str, bits: int) -> Runner:
        """Build ``part`` of ``bundle`` at ``bits``. EngineError where that cannot be done."""
