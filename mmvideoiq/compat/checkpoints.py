"""Checkpoints: the types that MMEngine stores are loaded, and an error names the file."""

import functools
import pickle
import re
import urllib.error
from collections.abc import Callable
from typing import Any

from mmvideoiq.compat.missing_parts import PartNotRegistered


def _checkpoint_getattr(owner: Any, name: str) -> Any:
    """Replacement for ``builtins.getattr`` when a checkpoint is loaded: only the functions that MMEngine stores.

    Raises:
        pickle.UnpicklingError: any other owner or name.
    """
    from mmengine.logging.history_buffer import HistoryBuffer
    from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

    stored = {
        HistoryBuffer: ("min", "max", "current", "mean"),
        OneCycleParamScheduler: ("_annealing_cos", "_annealing_linear"),
    }
    if isinstance(owner, type) and name in stored.get(owner, ()):
        return getattr(owner, name)
    raise pickle.UnpicklingError(f"a checkpoint may not access the attribute {name!r} of {owner!r}")


def allow_checkpoint_types() -> bool:
    """torch 2.6 loads with ``weights_only=True``, which rejects MMEngine's own checkpoints: allow the types in them.

    These are the log buffers of the message hub (with four statistics functions), the annealing function of a
    one-cycle schedule, and numpy numbers and arrays. pickle stores the functions as ``getattr`` calls, which are
    resolved from a closed list. Everything else is still rejected.
    """
    import numpy
    from mmengine.logging.history_buffer import HistoryBuffer
    from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
    from torch.serialization import add_safe_globals

    try:
        from numpy._core import multiarray
    except ImportError:  # numpy 1
        from numpy.core import multiarray  # type: ignore[no-redef]
    # numpy 1 writes numpy.core, numpy 2 writes numpy._core: either version reads both.
    rebuild = [
        (getattr(multiarray, name), f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    ]
    numbers = [type(numpy.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")]
    add_safe_globals(
        [
            HistoryBuffer,
            OneCycleParamScheduler,
            (_checkpoint_getattr, "builtins.getattr"),
            numpy.ndarray,
            numpy.dtype,
            *numbers,
            *rebuild,
        ]
    )
    return True


def explain_unreadable_checkpoints() -> bool:
    """MMEngine does not name a local checkpoint that torch cannot read: raise a one-line ValueError that does.

    The reason is that the file is empty, truncated or not a checkpoint, or that it contains a type that is not loaded
    safely; the message names that type.
    """
    from mmengine.runner.checkpoint import CheckpointLoader

    plain: Callable[..., Any] = CheckpointLoader._schemes[""]
    if hasattr(plain, "__wrapped__"):
        return True

    @functools.wraps(plain)
    def load_from_local(filename: str, map_location: Any = None) -> Any:
        try:
            return plain(filename, map_location)
        except FileNotFoundError:
            raise
        except (pickle.UnpicklingError, EOFError, LookupError, OSError, RuntimeError, ValueError) as error:
            found = re.search(r"GLOBAL (\S+)", str(error))
            why = (
                f"it contains {found[1]}, which is not loaded safely"
                if found
                else "empty, truncated or not a checkpoint"
            )
            raise ValueError(f"checkpoint {filename} cannot be read: {why}") from error

    CheckpointLoader.register_scheme("", loader=load_from_local, force=True)
    return True


def explain_unreachable_checkpoints() -> bool:
    """MMEngine does not name a checkpoint that it fails to download (``https://``, ``mmcls://``): raise errors that do.

    ``CheckpointLoader.load_checkpoint`` raises ConnectionError if the network or the server fails, and ValueError for a
    name that MMEngine does not know.
    """
    from mmengine.runner.checkpoint import CheckpointLoader

    plain: Callable[..., Any] = CheckpointLoader.load_checkpoint.__func__
    if hasattr(plain, "__wrapped__"):
        return True

    @functools.wraps(plain)
    def load_checkpoint(cls: type, filename: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return plain(cls, filename, *args, **kwargs)
        except urllib.error.URLError as error:
            raise ConnectionError(
                f"checkpoint {filename} cannot be downloaded: {error.reason}; download it elsewhere and pass its path"
            ) from error
        except KeyError as error:
            if isinstance(error, PartNotRegistered) or "://" not in filename:
                raise
            raise ValueError(f"checkpoint {filename}: MMEngine has no model of that name") from error

    CheckpointLoader.load_checkpoint = classmethod(load_checkpoint)
    return True
