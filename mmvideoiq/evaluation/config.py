"""The rows of a comparison: which trained model is tested with which override, read from a file and checked.

A comparison is a Python config file:

    name = "demo"
    rows = [
        dict(name="float", config="../float/demo_float.py", checkpoint="work_dirs/demo/float"),
        dict(name="fixed-4", config=..., checkpoint=..., precision=4),
        dict(name="random", config=..., checkpoint=..., usage_of="videoiq", draws=2),
        dict(name="early exit", config=..., checkpoint=..., threshold=[0.5, 0.7, 0.9]),
        dict(name="videoiq", config=..., checkpoint=[...], bundle="work_dirs/demo/bundle"),
    ]
    metric = "acc/top1"  # optional: the metric of MMAction2's evaluator that is compared
    engine = "openvino"  # optional: of the bundles
    timed_clips = 60  # optional
    threads = 1  # optional: of each contender when milliseconds are measured; the default is PyTorch's number
    kinds = "work_dirs/demo/data"  # optional: a folder that says what each frame is (data/frame_kinds.py)
    datasets = {"room B": {"test_dataloader.dataset.ann_file": "test_room_b.txt"}}  # optional: a table for each

``config`` is relative to the file, or as other paths to the current folder. ``checkpoint`` is a file, an address, or
the folder of a training, of which the best checkpoint is taken, else the last; of several, the row is the mean.
A row may have one override (``overrides.py``); a list of its figures makes a row of each, drawn as a curve.
``cfg_options`` are merged into the config. Milliseconds are measured where rows have a ``bundle``, which must be that
of their first checkpoint.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from mmvideoiq.actions import ActionSpace
from mmvideoiq.evaluation.overrides import (
    OVERRIDES,
    OverrideError,
    check_override,
    read_override,
)
from mmvideoiq.fileio import find_checkpoint

# recognizers whose predictions have no cost -> the same with costs; checkpoints fit both
WITH_COSTS = {"Recognizer2D": "UniformRecognizer", "AnyPrecisionRecognizer": "FixedPrecisionRecognizer"}
PLUGIN = "mmvideoiq.plugin"


class RowError(ValueError):
    """A comparison, or one of its rows, is invalid; the message names it and the reason."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A tested model: a config, its checkpoints, and what overrides the config.

    Attributes:
        curve: its name in the legend of a drawing.
        override, value: one of :data:`OVERRIDES`, or None, and its setting.
        draws: tests of each checkpoint, for random actions.
    """

    name: str
    curve: str
    config: Path
    checkpoints: tuple[str, ...]
    override: str | None = None
    value: Any = None
    draws: int = 1
    bundle: Path | None = None
    cfg_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The content of a file of rows."""

    name: str
    rows: tuple[Row, ...]
    metric: str = "acc/top1"
    engine: str = "openvino"
    timed_clips: int = 60
    threads: int | None = None
    kinds: str | None = None
    datasets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.threads is not None and (type(self.threads) is not int or self.threads < 1):
            raise RowError(f"{self.name}: threads={self.threads!r} must be an integer of at least 1")

    def each_dataset(self) -> Iterator[tuple[str, Comparison]]:
        """Name and comparison of every data set; one without a name where there are no others."""
        if not self.datasets:
            yield "", self
        for name, options in self.datasets.items():
            rows = [replace(row, cfg_options={**row.cfg_options, **options}) for row in self.rows]
            yield name, replace(self, name=f"{self.name}, {name}", rows=tuple(rows), datasets={})

    def with_rows(self, more: tuple[Row, ...]) -> Comparison:
        """The same with ``more`` rows; RowError where a name is repeated."""
        _check_names([*self.rows, *more])
        return replace(self, rows=(*self.rows, *more))

    def only(self, names: Sequence[str]) -> Comparison:
        """The same with the rows of these names alone.

        Raises:
            RowError: no row of a name, or none whose usage another takes.
        """
        known = [row.name for row in self.rows]
        if unknown := [name for name in names if name not in known]:
            raise RowError(f"{self.name} has no row '{unknown[0]}': its rows are {', '.join(known)}")
        rows = tuple(row for row in self.rows if row.name in names)
        for row in rows:
            if row.override == "usage_of" and row.value not in names:
                raise RowError(f"row '{row.name}' takes the usage of '{row.value}': name that row too")
        return replace(self, rows=rows)


def read_comparison(path: str | Path, *, only: Sequence[str] | None = None) -> Comparison:
    """Read a file of rows.

    Args:
        only: names of the rows that will be tested (:meth:`Comparison.only`); the files of others may be missing.

    Raises:
        RowError: no such file, not Python, no rows, an unknown key, or a row that :func:`make_rows` refuses.
    """
    path = Path(path)
    if not path.is_file():
        raise RowError(f"file of rows not found: {path}")
    try:
        content = Config.fromfile(path).to_dict()
    except Exception as error:
        raise RowError(f"{path} cannot be read: {type(error).__name__}: {error}") from error
    if "rows" not in content and ("model" in content or "stages" in content):
        kind = "the config of a model" if "model" in content else "a recipe"
        raise RowError(f"{path} is {kind}, not a file of rows")
    allowed = {each.name for each in fields(Comparison)}
    unknown = sorted(set(content) - allowed)
    if unknown:
        raise RowError(f"{path}: unknown key '{unknown[0]}'; allowed: {sorted(allowed)}")
    content["rows"] = make_rows(content.get("rows") or (), folder=path.parent, only=only)
    if content.get("kinds") is not None and not Path(content["kinds"]).is_dir():
        raise RowError(f"{path}: kinds={content['kinds']} is not a folder")
    return Comparison(**{"name": path.stem, **content})


def make_rows(
    entries: Sequence[Mapping[str, Any]], *, folder: Path, only: Sequence[str] | None = None
) -> tuple[Row, ...]:
    """The rows that ``entries`` describe, one per threshold or budget; ``only`` as in :func:`read_comparison`.

    Raises:
        RowError: none at all, a missing or unknown key, two overrides at once, a repeated name, a missing file, or
            ``usage_of`` of what is not another row.
    """
    if not entries:
        raise RowError("there are no rows to compare")
    rows: list[Row] = []
    for entry in entries:
        rows += _expand(entry, folder, only)
    _check_names(rows)
    for row in rows:
        known = [other.name for other in rows if other.override != "usage_of"]
        if row.override == "usage_of" and row.value not in known:
            raise RowError(f"row '{row.name}': usage_of='{row.value}' is not another row; known: {known}")
    return tuple(rows)


def _check_names(rows: Sequence[Row]) -> None:
    names = [row.name for row in rows]
    for name in names:
        if names.count(name) > 1:
            raise RowError(f"row '{name}': the name is used twice; every row needs its own")


def _expand(entry: Mapping[str, Any], folder: Path, only: Sequence[str] | None) -> list[Row]:
    where = f"row '{entry.get('name', '?')}'"
    for missing in sorted({"name", "config", "checkpoint"} - set(entry)):
        raise RowError(f"{where}: '{missing}' is missing")
    allowed = {"name", "config", "checkpoint", "draws", "bundle", "cfg_options", *OVERRIDES}
    for unknown in sorted(set(entry) - allowed):
        raise RowError(f"{where}: unknown key '{unknown}'; allowed: {sorted(allowed)}")
    overrides = [key for key in OVERRIDES if entry.get(key) is not None]
    if len(overrides) > 1:
        raise RowError(f"{where}: {' and '.join(overrides)} exclude one another")
    beside = folder / entry["config"]
    config = beside if beside.is_file() else Path(entry["config"])
    if not config.is_file():
        raise RowError(f"{where}: config {entry['config']} does not exist")
    checkpoints = [entry["checkpoint"]] if isinstance(entry["checkpoint"], str) else entry["checkpoint"]
    if not checkpoints:
        raise RowError(f"{where}: there is no checkpoint")
    found, override = [("", None)], overrides[0] if overrides else None
    if override is not None:
        try:
            found = list(read_override(override, entry[override]))
        except OverrideError as error:
            raise RowError(f"{where}: {error}") from None
    bundle = entry.get("bundle")
    if only is None or any(f"{entry['name']}{suffix}" in only for suffix, _ in found):
        checkpoints = [_checkpoint(where, str(path)) for path in checkpoints]
        if bundle is not None and not (Path(bundle) / "manifest.json").is_file():
            raise RowError(
                f"{where}: {bundle} is not a bundle (no manifest.json in it); make one with mmvideoiq export"
            )
    common = dict(
        curve=entry["name"],
        config=config.resolve(),
        checkpoints=tuple(map(str, checkpoints)),
        override=override,
        draws=entry.get("draws", 1),
        bundle=None if bundle is None else Path(bundle),
        cfg_options=entry.get("cfg_options") or {},
    )
    return [Row(name=f"{entry['name']}{suffix}", value=value, **common) for suffix, value in found]


def _checkpoint(where: str, path: str) -> str:
    """The file of a row's checkpoint, which may be given as a folder."""
    if "://" in path:
        return path
    if Path(path).is_dir():
        try:
            return str(find_checkpoint(Path(path)))
        except FileNotFoundError:
            raise RowError(f"{where}: no checkpoint in the folder {path}") from None
    if not Path(path).is_file():
        raise RowError(f"{where}: checkpoint not found: {path}")
    return path


def read_config(row: Row) -> Config:
    """The row's config, its options merged.

    Raises:
        RowError: it cannot be read, or the options do not fit.
    """
    try:
        config = Config.fromfile(row.config)
        config.merge_from_dict(dict(row.cfg_options))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise RowError(f"row '{row.name}': config {row.config.name} cannot be read: {reason}") from error
    return config


def row_config(row: Row) -> Config:
    """:func:`read_config`, with a recognizer that reports costs.

    Raises:
        RowError: as there, or it has no model or no test list.
    """
    where, config = f"row '{row.name}'", read_config(row)
    if "model" not in config:
        raise RowError(f"{where}: config {row.config.name} has no model")
    config.model.type = WITH_COSTS.get(config.model.type, config.model.type)
    if row.override == "threshold":
        config.model.threshold = row.value
    if row.override == "static_int8" and config.model.type == "UniformRecognizer":
        config.model |= dict(type="StaticInt8Recognizer", **row.value)
    imports = list((config.get("custom_imports") or {}).get("imports", []))
    if PLUGIN not in imports:
        config.custom_imports = dict(imports=[*imports, PLUGIN], allow_failed_imports=False)
    find_test_list(row, config)
    return config


def find_test_list(row: Row, config: Config) -> str:
    """The path of the config's test list; RowError where it has none."""
    where = f"row '{row.name}'"
    for key in ("test_dataloader", "test_evaluator", "test_cfg"):
        if not config.get(key):
            raise RowError(f"{where}: config {row.config.name} has no {key}, so there is nothing to test on")
    dataset = config.test_dataloader.dataset
    while "dataset" in dataset:  # a wrapper such as RepeatDataset
        dataset = dataset.dataset
    path = dataset.get("ann_file") or ""
    places = [path, os.path.join(dataset.get("data_root") or "", path)]
    found = next((place for place in places if os.path.isfile(place)), None)
    if found is None:
        raise RowError(
            f"{where}: test list not found: {places[-1] or '(no ann_file)'}; set the environment variable DATA_ROOT "
            "to the folder with the lists, or test_dataloader.dataset in the row's cfg_options"
        )
    return os.path.realpath(found)


def check_rows(rows: Sequence[Row]) -> dict[str, Config]:
    """Build every row's model with its weights, before anything is tested; returns the configs by row name.

    Each config gets a ``ComputeCostMetric`` over its model's actions where it has none.

    Raises:
        RowError: names the row, and what does not match: the config, a checkpoint without some of the model's weights,
            the override, another number of classes or another test list than the first row's.
    """
    configs: dict[str, Config] = {}
    models: dict[str, nn.Module] = {}
    loaded: set[tuple[str, str]] = set()
    first: tuple[Row, int, str] | None = None
    for row in rows:
        config = row_config(row)
        key = config.dump()
        model = models.get(key) or build_model(row, config)
        models = {key: model}  # rows of one config are neighbours; no more than one model is held
        for checkpoint in row.checkpoints:
            if (key, checkpoint) not in loaded:
                load_checkpoint(row, model, checkpoint)
                loaded.add((key, checkpoint))
        _check_override(row, model)
        found = (row, int(model.cls_head.num_classes), find_test_list(row, config))
        first = first or found
        if found[1] != first[1]:
            raise RowError(f"row '{row.name}' has {found[1]} classes, row '{first[0].name}' has {first[1]}")
        if found[2] != first[2]:
            raise RowError(f"row '{row.name}' is tested on {found[2]}, row '{first[0].name}' on {first[2]}")
        _count_costs(config, model.actions)
        configs[row.name] = config
    return configs


def build_model(row: Row, config: Config) -> nn.Module:
    """The recognizer of :func:`row_config`; RowError where it cannot be built or reports no cost."""
    init_default_scope(config.get("default_scope", "mmaction"))
    try:
        model = MODELS.build(copy.deepcopy(config.model))
    except Exception as error:
        raise RowError(
            f"row '{row.name}': the model cannot be built: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(getattr(model, "actions", None), ActionSpace):
        raise RowError(
            f"row '{row.name}': a {config.model.type} does not report the cost of its predictions; "
            f"known: {', '.join([*WITH_COSTS, *WITH_COSTS.values()])}, EarlyExitRecognizer, PrecisionEnsemble, "
            "VideoIQRecognizer"
        )
    return model


def load_checkpoint(row: Row, model: nn.Module, checkpoint: str) -> None:
    """Fill a row's model; RowError where the checkpoint does not fit."""
    where = f"row '{row.name}': checkpoint {checkpoint}"
    try:
        state = CheckpointLoader.load_checkpoint(checkpoint, map_location="cpu", logger="silent")
        state = state.get("state_dict", state)
    except Exception as error:
        raise RowError(f"{where} cannot be read: {type(error).__name__}: {error}") from error
    try:
        missing = model.load_state_dict(state, strict=False).missing_keys
    except RuntimeError as error:
        shape = str(error).splitlines()[-1].strip()
        raise RowError(f"{where} does not fit {row.config.name}: {shape}") from None
    if missing:
        raise RowError(
            f"{where} lacks {len(missing)} of the weights that {row.config.name} needs, e.g. {missing[0]}"
        )


def _check_override(row: Row, model: nn.Module) -> None:
    if row.override is None:
        return
    try:
        check_override(row.override, row.value, model)
    except OverrideError as error:
        raise RowError(f"row '{row.name}': {error}") from None


def _count_costs(config: Config, actions: ActionSpace) -> None:
    evaluators = config.test_evaluator if isinstance(config.test_evaluator, list) else [config.test_evaluator]
    found = [evaluator for evaluator in evaluators if evaluator["type"] == "ComputeCostMetric"]
    if not found:
        config.test_evaluator = [*evaluators, dict(type="ComputeCostMetric", actions=actions.to_cfg())]
    for metric in found:
        if ActionSpace.from_cfg(metric["actions"]).names != actions.names:  # of a config that a row changes
            metric["actions"] = actions.to_cfg()
