"""MMEngine's checkpoints load safely; those that do not are named."""

import urllib.error

import mmengine.runner.checkpoint
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.runner import CheckpointLoader


@pytest.fixture
def checkpoint(tmp_path):
    """All types found in MMEngine's own checkpoints beside tensors and plain Python values."""
    buffer = HistoryBuffer([1.0, 2.0], [1, 1])
    path = tmp_path / "checkpoint.pth"
    torch.save(
        dict(
            message_hub=dict(
                log_scalars={"train/lr": buffer},
                runtime_info={
                    "eta": np.float64(1.5),
                    "best_score": np.float32(0.5),
                    "val/acc": np.array([1, 2]),
                },
            ),
            param_schedulers=[dict(anneal_func=OneCycleParamScheduler._annealing_cos)],
            meta=dict(epoch=1, dataset_meta=dict(classes=("a", "b"))),
        ),
        path,
    )
    return path


def test_resume_with_weights_only(checkpoint):
    with torch.serialization.safe_globals([]):
        kept = torch.serialization.get_safe_globals()
        torch.serialization.clear_safe_globals()
        try:
            with pytest.raises(Exception, match="Weights only load failed"):
                torch.load(checkpoint, weights_only=True)
        finally:
            torch.serialization.add_safe_globals(kept)
    loaded = torch.load(checkpoint)
    hub = loaded["message_hub"]
    assert hub["log_scalars"]["train/lr"].mean() == 1.5
    assert hub["runtime_info"]["eta"] == 1.5 and hub["runtime_info"]["best_score"] == 0.5
    assert hub["runtime_info"]["val/acc"].tolist() == [1, 2]
    assert loaded["param_schedulers"][0]["anneal_func"](0.0, 1.0, 1.0) == 1.0


class Reach:
    """Pickles as the call it holds."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "reach",
    [
        Reach(getattr, HistoryBuffer, "__init__"),
        Reach(getattr, HistoryBuffer, "__subclasses__"),
        Reach(getattr, np.ndarray, "tofile"),
        Reach(getattr, [], "append"),
        Reach(eval, "1"),
        Reach(print, "hello"),
    ],
)
def test_other_objects_are_still_rejected(tmp_path, reach):
    torch.save(dict(a=reach), tmp_path / "bad.pth")
    with pytest.raises(Exception, match=r"may not access the attribute|Weights only load failed"):
        torch.load(tmp_path / "bad.pth")


class Unsafe:
    """A type that MMEngine does not store."""


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_bytes(b""), "empty, truncated or not a checkpoint"),
        (lambda path: path.write_bytes(b"not a checkpoint"), "empty, truncated or not a checkpoint"),
        (lambda path: path.write_bytes(path.read_bytes()[:400]), "empty, truncated or not a checkpoint"),
        (lambda path: torch.save(dict(a=Unsafe()), path), "Unsafe, which is not loaded safely"),
    ],
)
def test_unreadable_checkpoint_is_named(checkpoint, damage, reason):
    from mmengine.runner.checkpoint import CheckpointLoader

    damage(checkpoint)
    with pytest.raises(Exception) as error:
        CheckpointLoader._schemes[""].__wrapped__(str(checkpoint), "cpu")
    assert checkpoint.name not in str(error.value)
    with pytest.raises(ValueError, match="^checkpoint .*checkpoint.pth cannot be read: .*" + reason):
        CheckpointLoader.load_checkpoint(str(checkpoint))
    with pytest.raises(FileNotFoundError, match=r"no\.pth"):
        CheckpointLoader.load_checkpoint("no.pth")


def test_numpy_1_names_are_read(tmp_path):
    """A checkpoint written under numpy 1 names numpy.core, one written under numpy 2 numpy._core."""
    path = tmp_path / "numpy2.pth"
    torch.save(dict(a=np.arange(3), b=np.float64(2)), path, _use_new_zipfile_serialization=False)
    old = tmp_path / "numpy1.pth"
    assert b"numpy._core.multiarray" in path.read_bytes()
    old.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    for file in (path, old):
        loaded = torch.load(file)
        assert loaded["a"].tolist() == [0, 1, 2] and loaded["b"] == 2


@pytest.mark.parametrize("address", ["mmcls://resnet18", "https://example.org/a.pth"])
def test_checkpoint_that_cannot_be_downloaded_is_named(address, monkeypatch):
    def unreachable(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(mmengine.runner.checkpoint, "load_url", unreachable)
    with pytest.raises(ConnectionError) as error:
        CheckpointLoader.load_checkpoint(address)
    assert f"checkpoint {address} cannot be downloaded: Name or service not known; " in str(error.value)


def test_name_unknown_to_mmengine_is_named():
    with pytest.raises(
        ValueError, match=r"^checkpoint mmcls://resnet17: MMEngine has no model of that name$"
    ):
        CheckpointLoader.load_checkpoint("mmcls://resnet17")
