"""Two gloo processes equal one; no parameter waits for a gradient that never comes."""

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmaction.registry import DATASETS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel, convert_sync_batchnorm, revert_sync_batchnorm
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from torch import nn

from mmvideoiq import compat

compat.apply()  # the processes import no conftest.py

import mmvideoiq.evaluation.metrics  # noqa: F401  registers what the configs name
from mmvideoiq.models import policy as policy_module
from mmvideoiq.quant.layers import SwitchableBatchNorm
from tests.models.toy_runs import ToyClips, config, train
from tests.models.toys import (
    ACTIONS,
    CLASSES,
    any_precision_recognizer,
    build,
    clips,
    float_recognizer,
    lived_in,
    policy,
    samples,
    videoiq,
)
from tests.reference.sync_batch_norm import PlainSyncBatchNorm

STEPS = 2  # an unused parameter shows at the second
STAGES = [
    pytest.param(any_precision_recognizer(), False, id="any-precision"),
    pytest.param(any_precision_recognizer(), True, id="any-precision-teacher"),
    pytest.param(videoiq(), False, id="policy"),
    pytest.param(videoiq(distill=dict(type="DistillationLoss")), True, id="policy-teacher"),
    pytest.param(videoiq(policy=policy(num_classes=CLASSES)), False, id="policy-unused-classifier"),
    pytest.param(videoiq(frozen=()), False, id="joint"),
]


def steps(model, run, rows) -> list[dict]:
    """Steps of SGD on some rows of each batch, batch norms at rest; the parameters after each."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    optimizer = OptimWrapper(torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.001))
    labels, weights = samples(4), []
    for step in range(STEPS):
        inputs = clips(4, 3, seed=step)
        run.train_step(dict(inputs=list(inputs[rows]), data_samples=[labels[i] for i in rows]), optimizer)
        weights.append({name: parameter.detach().clone() for name, parameter in model.named_parameters()})
    return weights


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def leave() -> None:
    """End a process of a group; gloo's destructor may wait for a thread that waits for the interpreter's lock."""
    dist.barrier()
    os._exit(0)


def process(rank: int, port: int, cfg: dict, folder: str) -> None:
    torch.set_num_threads(1)
    init_default_scope("mmaction")
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    model = lived_in(build(cfg)).train()
    torch.manual_seed(rank)
    wrapped = MMDistributedDataParallel(model, broadcast_buffers=False, find_unused_parameters=False)
    torch.save(steps(model, wrapped, [2 * rank, 2 * rank + 1]), Path(folder) / f"{rank}.pt")
    leave()


@pytest.mark.slow
@pytest.mark.parametrize("cfg, taught", STAGES)
def test_two_processes(cfg, taught, tmp_path):
    if taught:
        teacher = lived_in(build(float_recognizer(), seed=2), seed=2)
        torch.save(dict(state_dict=teacher.state_dict()), tmp_path / "teacher.pth")
        cfg = dict(cfg, teacher=dict(float_recognizer(), checkpoint=str(tmp_path / "teacher.pth")))
    mp.spawn(process, args=(free_port(), cfg, str(tmp_path)), nprocs=2)
    one, two = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for step in range(STEPS):
        assert all(torch.equal(one[step][name], two[step][name]) for name in one[step])
    model = lived_in(build(cfg)).train()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    assert any(not torch.equal(one[0][name], before[name]) for name in before)
    if cfg["type"] != "AnyPrecisionRecognizer":
        return  # each rank draws noise of its own
    for wanted, got in zip(steps(model, model, [0, 1, 2, 3]), one, strict=True):
        for name, value in wanted.items():
            torch.testing.assert_close(got[name], value, rtol=1e-4, atol=1e-5, msg=name)


# --- whole trainings through MMEngine's runner --------------------------------------------------------------


@DATASETS.register_module()
class RoundedUpClips(ToyClips):
    """:class:`ToyClips`, and the first one once more: what MMEngine's sampler gives two processes of an odd number."""

    def __len__(self) -> int:
        return super().__len__() + 1

    def __getitem__(self, index: int) -> dict:
        return super().__getitem__(index % len(self.labels))


class Rest(Hook):
    """Keeps batch norms in eval mode."""

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        for module in runner.model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


class Metrics(Hook):
    def __init__(self) -> None:
        self.rows: list[dict] = []

    def after_val_epoch(self, runner, metrics=None) -> None:
        self.rows.append(metrics)


POLICY_LOSSES = dict(
    efficiency=dict(type="EfficiencyLoss"),
    balance=dict(type="UsageBalanceLoss", weight=5.0),
    entropy=dict(type="PolicyEntropyLoss"),
)
MODELS_OF_RUNS = {
    "float": float_recognizer(),
    "any-precision": any_precision_recognizer(),
    "any-precision-synchronized": any_precision_recognizer(),
    "policy": videoiq(policy=policy(dropout_ratio=0.0), losses=POLICY_LOSSES),
    "policy-odd": videoiq(policy=policy(dropout_ratio=0.0), losses=POLICY_LOSSES),
}


def run_config(name: str, processes: int, work_dir: Path) -> Config:
    """Two epochs on batches of 4 clips over all processes, the last one smaller; validation on 5 clips."""
    odd = name.endswith("odd")  # 7 clips: the last batch is filled up with the first clip
    cfg = config(MODELS_OF_RUNS[name], work_dir / name, epochs=2)
    cfg.train_dataloader.batch_size = 4 // processes
    cfg.train_dataloader.sampler.shuffle = not odd
    cfg.train_dataloader.dataset = dict(type="ToyClips", num=7 if odd else 6)
    if odd and processes == 1:
        cfg.train_dataloader.dataset.type = "RoundedUpClips"
    cfg.val_dataloader = dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(type="DefaultSampler", shuffle=False),
        dataset=dict(type="ToyClips", num=5),
    )
    cfg.val_cfg = dict(type="ValLoop")
    cfg.val_evaluator = [dict(type="AccMetric")]
    if cfg.model.cls_head.type == "TSNHead":
        cfg.model.cls_head.average_clips = "prob"
    if name.startswith("policy"):
        cfg.val_evaluator.append(dict(type="ComputeCostMetric", actions=list(ACTIONS)))
    if processes > 1:
        cfg.launcher = "pytorch"
    return cfg


def run(name: str, processes: int, work_dir: Path) -> dict:
    """Train; what each step logged, what each validation measured, and the weights after it."""
    cfg = run_config(name, processes, work_dir)
    compat.fit_launcher_to_cpu(cfg)
    synchronized = name.endswith("synchronized")
    if synchronized:
        cfg.sync_bn = "torch"
    metrics = Metrics()
    runner, steps = train(cfg, metrics, *([] if synchronized else [Rest()]))
    model = runner.model.module if processes > 1 else runner.model
    return dict(steps=steps, metrics=metrics.rows, weights=model.state_dict())


def runs_of_process(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.nn.modules.batchnorm.SyncBatchNorm = PlainSyncBatchNorm
    policy_module.sample_gumbel = torch.zeros_like
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    os.chdir(folder)
    results = {name: run(name, 2, Path(folder)) for name in MODELS_OF_RUNS}
    torch.save(results, Path(folder) / f"{rank}.pt")
    leave()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory) -> list[dict]:
    """What :func:`run` gave each of two processes, by name."""
    folder = tmp_path_factory.mktemp("two_processes")
    mp.spawn(runs_of_process, args=(free_port(), str(folder)), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS_OF_RUNS)
def test_two_processes_train_as_one(name, two_processes, tmp_path, monkeypatch):
    """The same losses in every step, the same weights and metrics: whatever the sizes of batches and lists."""
    monkeypatch.setattr(policy_module, "sample_gumbel", torch.zeros_like)
    alone, (first, second) = run(name, 1, tmp_path), [ranks[name] for ranks in two_processes]
    assert len(alone["steps"]) == len(first["steps"]) == len(second["steps"]) == 4
    for step, wanted in enumerate(alone["steps"]):
        for figure, value in wanted.items():
            mean = (first["steps"][step][figure] + second["steps"][step][figure]) / 2
            assert mean == pytest.approx(value, rel=1e-3, abs=1e-5), (step, figure)
    assert len(alone["metrics"]) == 2 and first["metrics"] == second["metrics"]
    for wanted, got in zip(alone["metrics"], first["metrics"], strict=True):
        assert got == pytest.approx(wanted, rel=1e-4)
    for key, value in alone["weights"].items():
        assert torch.equal(first["weights"][key], second["weights"][key]), key
        torch.testing.assert_close(first["weights"][key], value, rtol=1e-3, atol=1e-5, msg=key)


def test_synchronized_batch_norms_inside_switchable_ones():
    """MMEngine's conversion reaches every norm of every precision and keeps parameters, names and results."""
    model = lived_in(build(any_precision_recognizer())).eval()
    parameters, state, inputs = dict(model.named_parameters()), model.state_dict(), clips(2)
    switch = model.backbone.switch
    with torch.no_grad():
        before = {bits: _logits(model, inputs, bits) for bits in switch.precisions}
        model = convert_sync_batchnorm(model, "torch").eval()
        switchable = [module for module in model.modules() if isinstance(module, SwitchableBatchNorm)]
        assert switchable
        for module in switchable:
            assert [type(norm) for norm in module.norms.values()] == [nn.SyncBatchNorm] * len(
                switch.precisions
            )
        assert all(parameter is parameters[name] for name, parameter in model.named_parameters())
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
        for bits, logits in before.items():
            assert torch.equal(_logits(model, inputs, bits), logits)
    model.load_state_dict(state)
    plain = revert_sync_batchnorm(model)
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in plain.modules())
    assert plain.state_dict().keys() == state.keys()


def _logits(model, inputs, bits):
    model.set_fixed_action(bits=bits)
    return model(inputs, mode="tensor")
