"""What attributes the operations of a graph have, as JSON schemas: the one list of operations.

:mod:`.graph` says what they compute.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

TEXT = {"type": "string"}
FLAG = {"type": "boolean"}
MAX_NUMBER = 1e38  # float32 holds it
NUMBER = {"type": "number", "minimum": -MAX_NUMBER, "maximum": MAX_NUMBER}
AMOUNT = {**NUMBER, "minimum": 0}
POSITIVE = {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_NUMBER}
WHOLE = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
COUNT = {**WHOLE, "minimum": 1}
CODE_BITS = [8, 7, 6, 5, 4, 3, 2, 1]


def list_of(items: Any, low: int = 0, high: int | None = None) -> dict[str, Any]:
    most = {} if high is None else {"maxItems": high}
    return {"type": "array", **most, "minItems": low, "items": items}


def object_of(*, optional: Collection[str] = (), **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
        "properties": properties,
    }


PAIR = list_of(COUNT, 2, 2)
PAIR_OR_ZERO = list_of(WHOLE, 2, 2)

_POOL = object_of(kernel=PAIR, stride=PAIR, padding=PAIR_OR_ZERO, ceil=FLAG)
ATTRIBUTE_SCHEMAS: dict[str, dict[str, Any]] = {
    "normalize": object_of(mean=list_of(NUMBER, 1), std=list_of(POSITIVE, 1)),
    "resize": object_of(size=PAIR),
    "quantize": object_of(
        grids={
            "type": "object",
            "propertyNames": {"enum": [str(bits) for bits in CODE_BITS]},
            "additionalProperties": {
                "type": "array",
                "minItems": 4,
                "prefixItems": [
                    POSITIVE,
                    {"type": "integer", "minimum": -255, "maximum": 0},
                    COUNT,
                    NUMBER,
                ],
                "items": False,
            },
        }
    ),
    "conv": object_of(
        layer=TEXT,
        shape=list_of(COUNT, 4, 4),
        stride=PAIR,
        padding=PAIR_OR_ZERO,
        dilation=PAIR,
        groups=COUNT,
        quantized=FLAG,
    ),
    "linear": object_of(layer=TEXT, shape=PAIR, quantized=FLAG),
    "affine": object_of(layer=TEXT, channels=COUNT),
    "relu": object_of(),
    "clamp": object_of(low=NUMBER, high=NUMBER),
    "add": object_of(),
    "max_pool": _POOL,
    "avg_pool": _POOL,
    "mean_pool": object_of(),
    "flatten": object_of(),
    "shift": object_of(frames=COUNT, fold=COUNT),
    "lstm": object_of(layer=TEXT, hidden=COUNT),
}
