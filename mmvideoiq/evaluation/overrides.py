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
| ``oracle`` | True | the cheapest mode that is right for each frame: the upper limit |
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from mmvideoiq.models.choosers import mode_and_skip

OVERRIDES = (
    *("precision", "threshold", "budget", "multiplier", "usage_of"),
    *("frames", "difference", "oracle"),
)
CURVES = ("threshold", "budget", "multiplier", "frames", "difference")
"""Those whose figure may be a list: a row for each, drawn as a curve."""
NEEDS = {
    "precision": "set_fixed_action",
    "threshold": "set_threshold",
    "budget": "policy",
    "multiplier": "policy",
    "usage_of": "chooser",
    "frames": "chooser",
    "difference": "policy",
    "oracle": "chooser",
}
"""What a model must have."""
FIGURES = {"frames": ("count",), "difference": ("threshold", "processed")}
"""Of the overrides that also have a mode: what else they say, one of these."""
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
    if name in FIGURES:
        figure = _figure_of(name, value)
        for item in _listed(name, value[figure]):
            yield item[0], {"mode": value["mode"], figure: item[1]}
        return
    if name == "oracle" and value is not True:
        raise OverrideError(f"oracle={value!r} must be True, or left out")
    yield from _listed(name, value)


def _figure_of(name: str, value: Any) -> str:
    allowed = FIGURES[name]
    given = [key for key in allowed if isinstance(value, Mapping) and value.get(key) is not None]
    if len(given) != 1 or set(value) != {"mode", given[0]}:
        forms = " or ".join(f"dict(mode=, {key}=)" for key in allowed)
        raise OverrideError(f"{name}={value!r} must be {forms}")
    return given[0]


def _listed(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, list | tuple):
        yield "", value
        return
    if name not in CURVES or not value:
        raise OverrideError(f"{name}={value} must be a single value")
    for item in value:
        yield f"@{item:g}", item


def check_override(name: str, value: Any, model: nn.Module) -> None:
    """Raises:
    OverrideError: it does not fit the model.
    """
    where = f"{name}={value!r}"
    if not hasattr(model, NEEDS[name]):
        raise OverrideError(f"{where} does not apply to a {type(model).__name__}")
    if name == "multiplier" and (isinstance(value, bool) or not math.isfinite(value)):
        raise OverrideError(f"{where} must be a finite number")
    try:
        if name == "precision":
            model.set_fixed_action(bits=value)  # type: ignore[operator]
        elif name in FIGURES:
            mode_and_skip(model.actions, value["mode"])  # type: ignore[arg-type]
        elif name == "oracle":
            model.actions.index("skip")  # type: ignore[union-attr, operator]
    except ValueError as error:
        raise OverrideError(f"{where}: {error}") from None
