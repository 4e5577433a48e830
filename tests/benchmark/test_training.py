"""The benchmark: pairing, interleaving, the given usage, and what ``tools/benchmark.py train`` writes."""

import json
import math
import platform
import socket
import subprocess
import sys

import pytest
import torch
from torch import nn

from mmvideoiq.benchmark import training as benchmark
from mmvideoiq.benchmark.training import GivenUsage, TrainSettings
from mmvideoiq.models.policy import PolicyOutput

TINY = dict(backbone="resnet18", size=32, frames=2, eval_frames=4, threads=1, repeats=2, warmup=1)


def test_given_usage_is_met_on_average_and_nearly_in_each_call():
    shares = (0.2, 0.3, 0.2, 0.3)
    usage = GivenUsage(shares)
    log_probs = torch.zeros(1, 8, 4).log_softmax(-1)
    for _ in range(2000):
        before = usage.counts.clone()
        output = usage(nn.Identity(), (), PolicyOutput(torch.zeros(1, 8, 4), log_probs, None))
        drawn = usage.counts - before
        assert torch.equal(output.decisions.sum((0, 1)).long(), drawn)
        assert torch.equal(output.decisions.sum(-1), torch.ones(1, 8))
        assert ((drawn - 8 * torch.tensor(shares)).abs() < 1).all()
        assert output.log_probs is log_probs
    torch.testing.assert_close(usage.counts / usage.counts.sum(), torch.tensor(shares), atol=5e-3, rtol=0)


def test_dynamic_evaluation_runs_the_policy_and_then_the_given_actions():
    torch.manual_seed(0)
    model = benchmark.build_models(TrainSettings(**TINY))["policy"].eval()
    evaluate = benchmark.make_evaluation(model, torch.randn(1, 4, 3, 32, 32))
    evaluate()  # the first one also counts the model's cost
    usage = GivenUsage((0.0, 0.5, 0.0, 0.5))
    seen = []
    model.policy.backbone.register_forward_hook(lambda *_: seen.append(1))
    model.policy.register_forward_hook(usage)
    ran = []
    forward_at = model.backbone.forward_at
    model.backbone.forward_at = lambda frames, bits: (
        ran.append((len(frames), bits)) or forward_at(frames, bits)
    )
    evaluate()
    assert seen == [1]
    assert ran == [(2, 4)]
    assert usage.counts.tolist() == [0, 2, 0, 2]


def test_sizes_of_the_benchmark():
    settings = TrainSettings(size=224)
    assert settings.sizes == (224, 160, 112)
    assert settings.ideal_sizes_ratio == pytest.approx(1 + (5 / 7) ** 2 + 1 / 4)


def test_a_training_step_moves_what_learns_and_only_that():
    torch.manual_seed(0)
    model = benchmark.build_models(TrainSettings(**TINY))["policy"]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    benchmark.make_train_step(model, torch.randn(2, 2, 3, 32, 32))()
    moved = {
        name.split(".")[0] for name, value in model.state_dict().items() if not value.equal(before[name])
    }
    assert moved == {"policy", "cls_head"}


@pytest.mark.slow
def test_train_writes_its_ratios_and_what_they_depend_on(load_tool, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    out = tmp_path / "new" / "out.json"
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]
    tool = load_tool("benchmark.py")
    monkeypatch.setattr(tool, "keep_freed_memory", lambda: True)  # not in the tests' own process
    threads = torch.get_num_threads()
    try:
        tool.main(["train", *flags, "--json", str(out)])
    finally:
        torch.set_num_threads(threads)
    text = out.read_text()
    found = json.loads(text)
    assert found["sizes"] == [32] and found["ideal_sizes_ratio"] == 1
    for name in ("any_precision_step_ratio", "policy_step_ratio", "sizes_step_ratio", "dynamic_eval_ratio"):
        spread = found["spread"][name]
        assert len(spread["pairs"]) == (6 if name.startswith("dynamic") else 2)
        assert spread["range"][0] <= spread["quartiles"][0] <= found[name] <= spread["quartiles"][1]
        assert 0 < found[name] < math.inf and 0 < found["processor_time"][name] < math.inf
    printed = capsys.readouterr().out
    assert all(
        name in printed for name in ("any precision step", "policy step", "dynamic eval", str(out.name))
    )
    asked = dict(
        backbone="resnet18", input_size=32, frames=2, eval_frames=4, clips=1, threads=1, precisions=[32, 4, 2]
    )
    assert {name: found[name] for name in asked} == asked
    assert found["quantizers"] == {"weight": "dorefa", "activation": "pact"}
    assert found["repeats"] == {"steps": 2, "evaluations": 6, "warmup": 1}
    assert found["policy"]["backbone"] == "MobileNetV2"
    assert found["usage"]["asked"] == {"32": 0.2, "4": 0.3, "2": 0.2, "skip": 0.3}
    assert sum(found["usage"]["run"].values()) == pytest.approx(1)
    assert found["freed_memory_kept"] is True
    assert found["versions"]["torch"] == torch.__version__
    assert {"torch", "mmaction2", "mmengine", "numpy"} <= set(found["versions"])
    assert found["cpu"]["cores"] >= 1 and isinstance(found["cpu"]["flags"], list)
    assert socket.gethostname() not in text
    assert [path.name for path in out.parent.iterdir()] == ["out.json"]


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc")
def test_freed_memory_is_kept():
    code = """if True:
        import resource, sys
        from mmvideoiq import compat
        compat.apply()
        import torch
        from mmvideoiq.benchmark.training import keep_freed_memory
        assert keep_freed_memory()
        faults = [resource.getrusage(resource.RUSAGE_SELF).ru_minflt]
        for _ in range(6):
            torch.ones(2**26)  # 256 MB
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
        print(min(after - before for before, after in zip(faults, faults[1:])))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100  # of at least 128 with huge pages, 65536 without


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--size", "16"], "size=16 must be at least 32"),
        (["--frames", "0"], "frames=0 must be at least 1"),
        (["--weight", "twn"], r"weight='twn' must be one of ['dorefa', 'lsq', 'nested']"),
    ],
)
def test_wrong_flags_end_in_one_line(load_tool, capsys, flags, message):
    with pytest.raises(SystemExit) as end:
        load_tool("benchmark.py").main(["train", *flags])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
