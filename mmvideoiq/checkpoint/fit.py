"""Strict loading of checkpoints; mismatches that MMEngine only warns about are errors."""

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

SHOWN = 3  # names in a message
TEACHER = "teacher"  # this part loads a checkpoint of its own
MISSHAPED = re.compile(
    r"size mismatch for (\S+): copying a param with shape torch\.Size\((.*?)\) from checkpoint, "
    r"the shape in current model is torch\.Size\((.*?)\)"
)


def load_fitting(model: nn.Module, state: Mapping[str, Tensor], *, source: str, begin: bool = False) -> None:
    """Load ``state`` into ``model`` in place, if it fits.

    Batch norm counters and the teacher may be missing. With ``begin``, so may the parts that a training adds to its
    initial network: direct children of the model except the backbone, and quantizers if the checkpoint has none.
    Parts that the model does not have are ignored.

    Args:
        source: names the checkpoint in the message.
        begin: the model is trained from here, not tested.

    Raises:
        ValueError: tensors are missing, unexpected or of another shape; one line with the first names.
    """
    nameless = next((name for name in state if not isinstance(name, str)), None)
    if nameless is not None:
        raise ValueError(f"{source} does not fit: {nameless!r} is not the name of a tensor")
    if any(name.startswith("module.") for name in state):
        state = OrderedDict((name.removeprefix("module."), value) for name, value in state.items())
    try:
        names = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        shapes = [f"{name} {found} for {expected}" for name, found, expected in MISSHAPED.findall(str(error))]
        if not shapes:  # raised by a part of the model
            raise ValueError(f"{source} does not fit: {str(error).splitlines()[-1].strip()}") from error
        raise ValueError(f"{source} does not fit: {_listed(shapes)} of another shape") from error
    given_parts = {_part(name) for name in state}
    model_parts = {_part(name) for name in model.state_dict()}
    has_quantizers = any(_of_quantizer(name) for name in state)
    missing = [
        name
        for name in names.missing_keys
        if not name.endswith("num_batches_tracked") and _part(name) != TEACHER
    ]
    if begin and given_parts & model_parts:
        missing = [
            name
            for name in missing
            if (_part(name) in given_parts or _part(name) == "backbone")
            and (has_quantizers or not _of_quantizer(name))
        ]
    unexpected = [name for name in names.unexpected_keys if _part(name) in model_parts]
    parts = [
        f"{_listed(found)} {what}"
        for found, what in ((missing, "missing"), (unexpected, "unexpected"))
        if found
    ]
    if parts:
        raise ValueError(f"{source} does not fit: {'; '.join(parts)}")


def check_finite(state: Mapping[str, Tensor], *, source: str) -> None:
    """ValueError with the first names where floating-point tensors hold NaN or infinity."""
    found = [
        name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()
    ]
    if found:
        raise ValueError(f"{source} is damaged: {_listed(found)} with NaN or infinite values")


def _part(name: str) -> str:
    return name.partition(".")[0]


def _of_quantizer(name: str) -> bool:
    return any(step.endswith("quantizer") for step in name.split("."))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
