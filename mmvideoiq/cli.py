"""Shared by the commands of training and testing: reading a config and building the runner."""

from pathlib import Path
from typing import Any

from mmvideoiq import compat
from mmvideoiq.jobs.errors import Begun, one_line

compat.apply()

from mmengine.config import Config, DictAction
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

CONFIGS = (".py", ".yml", ".yaml", ".json")
OTHER_CONFIGS = {"stages": "train_stages.py", "rows": "compare.py"}


class Settings(DictAction):
    """MMEngine's parser of ``--cfg-options key=value ...``, with a clear error for values without ``=``."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        for value in values:
            if "=" not in value:
                raise ValueError(f"{option_string} takes key=value, got {value!r}")
        super().__call__(parser, namespace, values, option_string)


class BeginHook(Hook):
    """Checks the size of the first clip and the metrics' options, then records in ``begun`` that the run has begun."""

    priority = "LOWEST"

    def __init__(self, begun: Begun) -> None:
        self.begun = begun

    def before_train(self, runner: Runner) -> None:
        check_frames(runner.model, runner.train_dataloader)
        if runner.val_loop is not None:
            check_metrics(runner.val_evaluator)
        self.begun.happened = True

    def before_test(self, runner: Runner) -> None:
        check_frames(runner.model, runner.test_dataloader)
        check_metrics(runner.test_evaluator)
        self.begun.happened = True


def check_frames(model: Any, loader: Any) -> None:
    """Let a model with ``check_frames(height, width)`` check the size of the loader's first clip."""
    model = model.module if is_model_wrapper(model) else model
    if hasattr(model, "check_frames"):
        model.check_frames(*loader.dataset[0]["inputs"].shape[-2:])


def check_runtime(config: Config) -> None:
    """ValueError for samplers and log windows that MMEngine takes when built, and fails on at the first clips."""
    log = config.get("log_processor")
    window = log.get("window_size", 1) if isinstance(log, dict) else 1
    if type(window) is not int or window < 1:
        raise ValueError(
            f"log_processor.window_size={window!r} must be a whole number of iterations, 1 or more"
        )
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        loader = config.get(name)
        if isinstance(loader, dict) and not isinstance(loader.get("sampler"), dict | None):
            raise ValueError(
                f"{name}.sampler={loader.sampler!r} must be a dict, such as dict(type='DefaultSampler')"
            )


def check_metrics(evaluator: Any) -> None:
    """Check the options of ``AccMetric``, which looks at them only after all clips; ValueError names what is wrong."""
    from mmaction.evaluation import AccMetric

    for metric in evaluator.metrics:
        if not isinstance(metric, AccMetric) or "top_k_accuracy" not in metric.metrics:
            continue
        options = metric.metric_options
        chosen = options.get("top_k_accuracy", {}) if isinstance(options, dict) else None
        topk = chosen.get("topk", 1) if isinstance(chosen, dict) else None
        if not all(type(k) is int and k >= 1 for k in (topk if isinstance(topk, tuple) else (topk,))):
            raise ValueError(
                "AccMetric metric_options must be like dict(top_k_accuracy=dict(topk=(1, 5))), topk a whole number or "
                f"a tuple of some, got {options!r}"
            )


def need_file(path: str, what: str) -> None:
    """Raise FileNotFoundError, or IsADirectoryError, unless ``path`` is a file or an address such as ``https://...``."""
    if Path(path).is_dir():
        kind = "a bundle" if Path(path, "manifest.json").is_file() else "a folder"
        raise IsADirectoryError(f"{what} {path} is {kind}, not a file")
    if "://" not in path and not Path(path).is_file():
        raise FileNotFoundError(f"{what} not found: {path}")


def read_config(path: str, *, options: dict | None, work_dir: str | None, launcher: str) -> Config:
    """Read a config and override it by the command line.

    Args:
        options: the values of ``--cfg-options``; they override the file.
        work_dir: overrides the file; if neither sets it, ``work_dirs/<name of the config>``.

    Raises:
        FileNotFoundError: the config does not exist.
        ValueError: the config is not valid Python or has no model, or an option is invalid; the message names it.
    """
    need_file(path, "config")
    if Path(path).suffix not in CONFIGS:
        raise ValueError(f"config {path}: the name of a config ends in one of {', '.join(CONFIGS)}")
    try:
        config = Config.fromfile(path)
    except SyntaxError as error:
        raise ValueError(f"config {path} is not valid Python: {one_line(error)}") from error
    except (AttributeError, NameError, TypeError) as error:
        raise ValueError(f"config {path} cannot be read: {one_line(error)}") from error
    if "model" not in config:
        other = next((tool for key, tool in OTHER_CONFIGS.items() if key in config), None)
        raise ValueError(f"config {path} has no model" + (f": it is for tools/{other}" if other else ""))
    for key, value in (options or {}).items():
        try:
            config.merge_from_dict({key: value})
        except (AttributeError, AssertionError, IndexError, KeyError, TypeError) as error:
            raise ValueError(f"--cfg-options {key}={value} does not fit: {one_line(error)}") from error
    config.launcher = launcher
    if work_dir is not None:
        config.work_dir = work_dir
    elif config.get("work_dir") is None:
        config.work_dir = str(Path("work_dirs") / Path(path).stem)
    return config


def build_runner(config: Config, begun: Begun) -> Any:
    """Build MMEngine's runner, or that of ``runner_type``; it records in ``begun`` that the run has begun."""
    check_runtime(config)
    compat.fit_launcher_to_cpu(config)
    if "runner_type" in config:
        from mmaction.registry import RUNNERS

        runner = RUNNERS.build(config)
    else:
        runner = Runner.from_cfg(config)
    from mmvideoiq.hooks import add_checks  # registers these hooks only; a config lists the plugin itself

    add_checks(runner)
    runner.register_hook(BeginHook(begun))
    return runner
