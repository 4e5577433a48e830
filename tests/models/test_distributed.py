"""Two gloo processes equal one; no parameter waits for a gradient that never comes."""

import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from torch import nn

from mmvideoiq import compat
from tests.models.toys import (
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


def process(rank: int, port: int, cfg: dict, folder: str) -> None:
    compat.apply()
    import mmvideoiq.models  # noqa: F401

    torch.set_num_threads(1)
    init_default_scope("mmaction")
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    try:
        model = lived_in(build(cfg)).train()
        torch.manual_seed(rank)
        wrapped = MMDistributedDataParallel(model, broadcast_buffers=False, find_unused_parameters=False)
        torch.save(steps(model, wrapped, [2 * rank, 2 * rank + 1]), Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("cfg, taught", STAGES)
def test_two_processes(cfg, taught, tmp_path):
    if taught:
        teacher = lived_in(build(float_recognizer(), seed=2), seed=2)
        torch.save(dict(state_dict=teacher.state_dict()), tmp_path / "teacher.pth")
        cfg = dict(cfg, teacher=dict(float_recognizer(), checkpoint=str(tmp_path / "teacher.pth")))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(process, args=(port, cfg, str(tmp_path)), nprocs=2)
    one, two = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for step in range(STEPS):
        assert all(torch.equal(one[step][name], two[step][name]) for name in one[step])
    model = lived_in(build(cfg)).train()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    assert any(not torch.equal(one[0][name], before[name]) for name in before)
    if cfg["type"] != "AnyPrecisionRecognizer":
        return  # each rank draws noise of its own, and balance is no mean over clips
    for wanted, got in zip(steps(model, model, [0, 1, 2, 3]), one, strict=True):
        for name, value in wanted.items():
            torch.testing.assert_close(got[name], value, rtol=1e-4, atol=1e-5, msg=name)
