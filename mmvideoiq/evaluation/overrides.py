"""What a row of a comparison may change in testing: reading and checking it; ``evaluator.py`` applies it.

| override | value | what is tested |
|---|---|---|
| ``precision`` | 4 or "8@112" | every frame in this mode |
| ``threshold`` | 0.9 | an early-exit recognizer with this threshold |
| ``budget`` | 0.3 | a policy whose multiplier gives this mean cost on the val list |
| ``multiplier`` | 2.0 | a policy whose costs count as many times (``PrecisionPolicy.cost_multiplier``) |
| ``usage_of`` | name of a row | random actions with the usage of that row |
| ``frames`` | dict(mode=8, count=4) | as many frames of each clip, evenly spread, in one mode |
| ``difference`` | dict(mode=8, threshold=6.0) | a frame is processed if it differs from the last processed one: |
| | dict(mode=8, processed=0.3) | the threshold at which this share of the val list's frames is processed |
| ``static_int8`` | dict(size=160) | a float recognizer, quantized after training (NNCF) with clips of the val list |
| | dict(size=160, frames=4) | the same with as many frames of each clip |
| ``oracle`` | True | the cheapest mode that is right for each frame: the upper limit |
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from mmvideoiq.models.choosers import mode_and_skip

OVERRIDES = (
    *("precision", "threshold", "budget", "multiplier", "usage_of"),
    *("frames", "difference", "static_int8", "oracle"),
)
CURVES = ("threshold", "budget", "multiplier")
"""Those whose value may be a list: a row for each, drawn as a curve; one of FORMS may hold a list."""
NEEDS = {
    "precision": "set_fixed_action",
    "threshold": "set_threshold",
    "budget": "policy",
    "multiplier": "policy",
    "usage_of": "chooser",
    "frames": "chooser",
    "difference": "policy",
    "static_int8": "network",
    "oracle": "chooser",
}
"""What a model must have."""
FORMS = {
    "frames": (("mode", "count"),),
    "difference": (("mode", "threshold"), ("mode", "processed")),
    "static_int8": (("size",), ("size", "frames")),
}
"""Keys of the overrides that are dicts."""
ROLES = {
    "usage_of": "random",
    "oracle": "limit",
    "budget": "policy",
    "multiplier": "policy",
}


class OverrideError(ValueError):
    """An override that is none, or does not fit the model; the message says why."""


def role_of(override: str | None, model: nn.Module) -> str:
    """What a row stands for: 'policy', 'random', 'limit' (an upper limit) or 'plain'."""
    return ROLES.get(override or "", "policy" if override is None and hasattr(model, "policy") else "plain")


def read_override(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The rows that an entry's override describes: the suffix of each one's name, and its value.

    Raises:
        OverrideError: a value of another form.
    """
    if name in FORMS:
        yield from _read_form(name, value)
        return
    if name == "oracle" and value is not True:
        raise OverrideError(f"oracle={value!r} must be True, or left out")
    if not isinstance(value, list | tuple):
        yield "", value
        return
    if name not in CURVES or not value:
        raise OverrideError(f"{name}={value} must be a single value")
    for item in value:
        yield f"@{item:g}", item


def _read_form(name: str, value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    forms = FORMS[name]
    if not isinstance(value, Mapping) or set(value) not in [set(form) for form in forms]:
        listed = " or ".join(f"dict({', '.join(f'{key}=' for key in form)})" for form in forms)
        raise OverrideError(f"{name}={value!r} must be {listed}")
    lists = [key for key in value if isinstance(value[key], list | tuple)]
    if len(lists) > 1 or "mode" in lists or any(not value[key] for key in lists):
        raise OverrideError(f"{name}={value!r} may hold one list, of numbers")
    if not lists:
        yield "", dict(value)
        return
    for item in value[lists[0]]:
        yield f"@{item:g}", {**value, lists[0]: item}


def check_override(name: str, value: Any, model: nn.Module) -> None:
    """Raises:
    OverrideError: it does not fit the model.
    """
    where = f"{name}={value!r}"
    if not hasattr(model, NEEDS[name]):
        raise OverrideError(f"{where} does not apply to a {type(model).__name__}")
    if name == "multiplier" and (isinstance(value, bool) or not math.isfinite(value)):
        raise OverrideError(f"{where} must be a finite number")
    if name == "static_int8" and importlib.util.find_spec("nncf") is None:
        raise OverrideError(f"{where} needs nncf: pip install 'mmvideoiq[benchmark]'")
    try:
        if name == "precision":
            model.set_fixed_action(bits=value)  # type: ignore[operator]
        elif name in ("frames", "difference"):
            mode_and_skip(model.actions, value["mode"])  # type: ignore[arg-type]
        elif name == "oracle":
            model.actions.index("skip")  # type: ignore[union-attr, operator]
    except ValueError as error:
        raise OverrideError(f"{where}: {error}") from None
