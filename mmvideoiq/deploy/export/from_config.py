"""From a config and a checkpoint to a bundle: what the config says of videos, classes and validation clips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader, Runner
from torch import nn

from mmvideoiq.checkpoint import load_fitting
from mmvideoiq.deploy.bundle.bundle import Bundle, write_bundle
from mmvideoiq.deploy.engines.base import Engine
from mmvideoiq.deploy.export.budget_curve import measure_curve
from mmvideoiq.deploy.export.recognizer import Preprocessing, export_parts
from mmvideoiq.deploy.export.trace import ExportError
from mmvideoiq.deploy.session import VideoSession

CLASSES_FILE = "classes.txt"  # beside a list of clips, a name a line


def export_from_config(
    config: Config,
    checkpoint: str | None,
    out: str | Path,
    *,
    classes: str | Path | None = None,
    calibrate_with: str | None = "val",
    time_on: Engine | None = None,
    progress: Callable[[Iterable], Iterable] = iter,
) -> None:
    """Build the config's model, load the checkpoint, export, with a budget curve where there is a policy.

    Args:
        checkpoint: path; read with ``weights_only``. None exports the model untrained, its classes
            without names.
        classes: file with the name of a class a line; None takes those of the test dataset.
        calibrate_with: 'val' or 'test', the clips on which the budget curve is measured; None leaves it out.
        time_on: the engine whose milliseconds per frame, on this machine, go into the bundle; None leaves them out.
        progress: wraps the batches of clips.

    Raises:
        ExportError: something that a bundle cannot hold, or a checkpoint of another model.
    """
    init_default_scope(config.get("default_scope", "mmaction"))
    dataset = dataset_of(config, "test")
    preprocessing = read_pipeline(dataset["pipeline"])
    model = MODELS.build(config.model).eval()
    count = model.cls_head.num_classes
    if checkpoint is None:
        names = [str(label) for label in range(count)]
    else:
        load(model, checkpoint)
        names = read_classes(classes) if classes is not None else find_classes(dataset, count)
    split = calibrate_with if hasattr(model, "policy") else None
    clips: Any = clips_of(config, split or "test") if split or preprocessing.crop is None else None
    size = tuple(clips.dataset[0]["inputs"].shape[-2:]) if preprocessing.crop is None else None
    parts = export_parts(model, classes=names, preprocessing=preprocessing, frame_size=size)
    if split is not None:
        parts["manifest"]["budget"] = measure_curve(model, progress(clips))
    write_bundle(out, **parts)
    if time_on is not None:
        parts["manifest"]["latency_ms"] = VideoSession(Bundle.open(out), time_on).measure_latency()
        write_bundle(out, **parts)


def load(model: nn.Module, checkpoint: str) -> None:
    """Fill ``model``, a teacher aside, from a checkpoint of MMAction2's runner.

    Raises:
        ExportError: it does not fit; names what is missing, unexpected or of another shape.
    """
    loaded = CheckpointLoader.load_checkpoint(checkpoint, map_location="cpu", logger="silent")
    try:
        load_fitting(model, loaded.get("state_dict", loaded), source=checkpoint)
    except ValueError as error:
        raise ExportError(f"{error}; was it trained with another config?") from error


# --- videos -------------------------------------------------------------------------------------------------------


def dataset_of(config: Config, split: str) -> dict[str, Any]:
    """The dataset below the wrappers of ``{split}_dataloader``."""
    dataset = config.get(f"{split}_dataloader") or {}
    while dataset and "pipeline" not in dataset:
        dataset = dataset.get("dataset") or {}
    if not dataset:
        raise ExportError(f"the config has no {split}_dataloader with a pipeline")
    return dataset


def clips_of(config: Config, split: str) -> Any:
    """The loader of a split; FileNotFoundError where its clips are not there."""
    dataset_of(config, split)
    return Runner.build_dataloader(config[f"{split}_dataloader"], seed=0)


def read_pipeline(pipeline: Sequence[Mapping[str, Any]]) -> Preprocessing:
    """A test pipeline as numbers.

    Raises:
        ExportError: a transform, an order or an option that the runtime does not have; names it.
    """
    found: dict[str, Any] = {}
    last = -1
    for step in pipeline:
        name = str(step["type"]).rpartition(".")[2]
        place = next((place for place, names in enumerate(ORDER) if name in names), -1)
        if place <= last:
            known = ", ".join(" or ".join(names) for names in ORDER)
            raise ExportError(
                f"test pipeline: {name} cannot be exported here; a bundle reads {known}, in this order"
            )
        last = place
        found |= ORDER[place][name](step)
    if "frames" not in found:
        raise ExportError("test pipeline: there is no SampleFrames")
    return Preprocessing(**found)


def _sample_frames(step: Mapping[str, Any]) -> dict[str, int]:
    wanted = dict(clip_len=1, test_mode=True, twice_sample=False, temporal_jitter=False, target_fps=None)
    defaults = dict(wanted, test_mode=False)
    for option, value in wanted.items():
        if step.get(option, defaults[option]) != value:
            raise ExportError(
                f"test pipeline: SampleFrames with {option}={step.get(option, defaults[option])} cannot be exported; "
                f"it needs {option}={value}"
            )
    return dict(frames=step.get("num_clips", 1))


def _resize(step: Mapping[str, Any]) -> dict[str, int]:
    scale = step["scale"]
    short_only = isinstance(scale, (tuple, list)) and min(scale) == -1 and type(max(scale)) is int
    wanted = dict(keep_ratio=True, interpolation="bilinear", lazy=False)
    others = {option: step[option] for option in wanted if step.get(option, wanted[option]) != wanted[option]}
    if not short_only or others:
        raise ExportError(
            f"test pipeline: Resize with {dict(scale=scale) | others} cannot be exported; it needs scale=(-1, side)"
        )
    return dict(short_side=max(scale))


def _center_crop(step: Mapping[str, Any]) -> dict[str, int]:
    size = step["crop_size"]
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) > 1 or step.get("lazy", False):
        raise ExportError(
            f"test pipeline: CenterCrop with {size} cannot be exported; it needs one side, and not lazy"
        )
    return dict(crop=sides.pop())


def _format_shape(step: Mapping[str, Any]) -> dict[str, int]:
    if step["input_format"] != "NCHW":
        raise ExportError(
            f"test pipeline: FormatShape with {step['input_format']} cannot be exported; it needs NCHW"
        )
    return {}


def _video_decode(step: Mapping[str, Any]) -> dict[str, Any]:
    return {option: step[option] for option in ("sampling", "tolerance_s") if option in step}


def _nothing(_: Mapping[str, Any]) -> dict[str, int]:
    return {}


# What may stand in each place. Where decord reads a file right, both decoders give the same frames.
ORDER: tuple[dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]], ...] = (
    {"VideoInit": _nothing, "DecordInit": _nothing},
    {"SampleFrames": _sample_frames},
    {"VideoDecode": _video_decode, "DecordDecode": _nothing},
    {"Resize": _resize},
    {"CenterCrop": _center_crop},
    {"FormatShape": _format_shape},
    {"PackActionInputs": _nothing},
)


# --- classes ------------------------------------------------------------------------------------------------------


def read_classes(path: str | Path) -> list[str]:
    """A name a line; empty lines at the end do not count."""
    return Path(path).read_text(encoding="utf-8").rstrip().splitlines()


def find_classes(dataset: Mapping[str, Any], count: int) -> list[str]:
    """Names in the dataset's ``metainfo``, else in ``classes.txt`` beside its list, else "0", "1", ..."""
    named = (dataset.get("metainfo") or {}).get("classes")
    if named is not None:
        return read_classes(named) if isinstance(named, str) else [str(name) for name in named]
    beside = Path(dataset.get("data_root") or "", dataset.get("ann_file") or "").with_name(CLASSES_FILE)
    return read_classes(beside) if beside.is_file() else [str(label) for label in range(count)]
