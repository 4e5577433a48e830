"""Short trainings through MMEngine's Runner on a few tensors."""

from itertools import count
from pathlib import Path
from typing import Any

import torch
from mmaction.registry import DATASETS
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import Dataset

from tests.models.toys import CLASSES

RUNS = count()  # two runs of one name in one second would share what MMEngine remembers of a run


@DATASETS.register_module()
class ToyClips(Dataset):
    """``num`` clips (T, 3, size, size) uint8; the class is how bright they are. Noise is drawn at every visit."""

    def __init__(self, *, num: int = 8, frames: int = 3, size: int = 16, augment: bool = False) -> None:
        generator = torch.Generator().manual_seed(0)
        self.labels = [i % CLASSES for i in range(num)]
        self.clips = torch.randint(0, 80, (num, frames, 3, size, size), generator=generator)
        self.clips += 80 * torch.tensor(self.labels).view(-1, 1, 1, 1, 1)
        self.augment = augment

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict:
        clip = self.clips[index]
        if self.augment:
            clip = (clip + torch.randint(0, 10, clip.shape)).clamp(max=255)
        return dict(inputs=clip.byte(), data_samples=ActionDataSample().set_gt_label(self.labels[index]))


class LossTrace(Hook):
    """Keeps every logged figure of every step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None):
        self.steps.append({name: float(value) for name, value in outputs.items()})


def preprocessor() -> dict:
    return dict(type="ActionDataPreprocessor", mean=[110.0] * 3, std=[70.0] * 3, format_shape="NCHW")


def config(
    model: dict, work_dir: Path, *, epochs: int = 1, dataset: dict | None = None, **options: Any
) -> Config:
    """A training config of ``model`` on :class:`ToyClips`: batches of 4, SGD, a checkpoint after each epoch."""
    return Config(
        dict(
            model=dict(model, data_preprocessor=preprocessor()),
            work_dir=str(work_dir),
            default_scope="mmaction",
            train_dataloader=dict(
                batch_size=4,
                num_workers=0,
                sampler=dict(type="DefaultSampler", shuffle=True),
                dataset=dict(type="ToyClips", **(dataset or {})),
            ),
            train_cfg=dict(type="EpochBasedTrainLoop", max_epochs=epochs),
            optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.02, momentum=0.9)),
            default_hooks=dict(
                runtime_info=dict(type="RuntimeInfoHook"),
                timer=dict(type="IterTimerHook"),
                logger=dict(type="LoggerHook", interval=1),
                param_scheduler=dict(type="ParamSchedulerHook"),
                checkpoint=dict(type="CheckpointHook", interval=1),
                sampler_seed=dict(type="DistSamplerSeedHook"),
            ),
            env_cfg=dict(mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0)),
            randomness=dict(seed=3),
            log_level="WARNING",
            experiment_name=f"{work_dir.name}-{next(RUNS)}",
        )
        | options
    )


def train(cfg: Config, *hooks: Hook) -> tuple[Runner, list[dict[str, float]]]:
    """The runner after training, and what it logged at each step."""
    runner = Runner.from_cfg(cfg)
    trace = LossTrace()
    for hook in (trace, *hooks):
        runner.register_hook(hook)
    runner.train()
    return runner, trace.steps
