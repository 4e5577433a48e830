"""Whether a checkpoint fits a model; what torch and the host only warn of is an error here."""

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
    """Load ``state`` into ``model`` in place, where it fits.

    Counters of batch norms may be missing, and the teacher. So may, with ``begin``, what a training adds to the network
    it begins from: whole parts (the model's direct children), the backbone aside, and quantizers where the checkpoint
    has none. A part that the model does not have is left out.

    Args:
        source: names the checkpoint in the message.
        begin: the model is trained from here, not tested.

    Raises:
        ValueError: tensors are missing, unexpected or of another shape; one line with the first names.
    """
    if any(name.startswith("module.") for name in state):
        state = OrderedDict((name.removeprefix("module."), value) for name, value in state.items())
    try:
        names = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        shapes = [f"{name} {theirs} for {ours}" for name, theirs, ours in MISSHAPED.findall(str(error))]
        if not shapes:  # a part explains itself
            raise ValueError(f"{source} does not fit: {str(error).splitlines()[-1].strip()}") from error
        raise ValueError(f"{source} does not fit: {_listed(shapes)} of another shape") from error
    given = {_part(name) for name in state}
    ours = {_part(name) for name in model.state_dict()}
    has_quantizers = any(_of_quantizer(name) for name in state)
    missing = [
        name
        for name in names.missing_keys
        if not name.endswith("num_batches_tracked") and _part(name) != TEACHER
    ]
    if begin and given & ours:
        missing = [
            name
            for name in missing
            if (_part(name) in given or _part(name) == "backbone")
            and (has_quantizers or not _of_quantizer(name))
        ]
    unexpected = [name for name in names.unexpected_keys if _part(name) in ours]
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
