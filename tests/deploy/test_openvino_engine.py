"""The OpenVINO engine: bundles, numbers of frames, float precision, errors, signals and forks."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from mmvideoiq.deploy.bundle.bundle import Bundle
from mmvideoiq.deploy.engines import openvino_engine
from mmvideoiq.deploy.engines.base import EngineError
from mmvideoiq.deploy.engines.cpu import has_bf16
from mmvideoiq.deploy.engines.openvino_engine import OpenVinoEngine, OpenVinoRunner
from tests.deploy.engine_cases import BOTH_CPUS, EXACT, normal, ratio
from tests.deploy.openvino_models import agreement, executed, frames_of, load
from tests.deploy.toy_bundle import HIDDEN, make_toy_bundle
from tests.reference.run_graph import run_graph

TOYS = {
    "nested": {},
    "dorefa": dict(grid="dorefa"),
    "quantized stem": dict(quantize_stem=True),
    "float parent": dict(parent_bits=32, precisions=(32, 4, 2)),
}


@pytest.fixture(scope="module", params=TOYS)
def toy(request, tmp_path_factory) -> Bundle:
    return Bundle.open(make_toy_bundle(tmp_path_factory.mktemp("toy") / "bundle", **TOYS[request.param]))


@BOTH_CPUS
def test_recognition_is_the_same_whatever_the_number_of_frames(toy, vnni):
    frames = frames_of(16, (32, 32))
    given = {"frames": torch.from_numpy(frames)}
    for bits in toy.precisions:
        run = load(toy, bits, vnni=vnni)
        features = run({"frames": frames})["features"]
        assert ratio(features, run_graph(toy, "recognition", bits, given)["features"]) > EXACT
        for n in (1, 3, 7):
            np.testing.assert_array_equal(run({"frames": frames[-n:]})["features"], features[-n:])


@pytest.mark.parametrize("grid", ["nested", "dorefa"])
def test_one_model_takes_any_number_of_frames_unless_corrections_are_summed(tmp_path, monkeypatch, grid):
    """Of those that need one for each number, each is built when it is asked for."""

    def models(runner: OpenVinoRunner) -> int:
        return len(set(map(id, runner._requests.values())))

    bundle = Bundle.open(make_toy_bundle(tmp_path / "bundle", grid=grid))
    run = load(bundle, 4)
    assert models(run) == (1 if grid == "nested" else 0)
    for n in run._batches:
        run({"frames": frames_of(n, (32, 32))})
    assert models(run) == (1 if grid == "nested" else len(run._batches))
    run = load(bundle, 32, part="policy")
    assert models(run) == 0
    run({"frames": frames_of(5, (32, 32)), "h": normal(1, HIDDEN), "c": normal(1, HIDDEN)})
    assert models(run) == 1  # a small graph takes any number up to 8 in one call
    monkeypatch.setattr(openvino_engine, "SMALL", 0)
    run = load(bundle, 32, part="policy")
    run({"frames": frames_of(5, (32, 32)), "h": normal(1, HIDDEN), "c": normal(1, HIDDEN)})  # 4, 1
    assert models(run) == 2


@pytest.mark.skipif(not has_bf16(), reason="a CPU with bf16")
def test_in_bf16_floats_are_close_and_integers_the_same(toy):
    frames = frames_of(3, (32, 32))
    exact, auto, asked = (
        OpenVinoEngine(threads=1, float_precision=precision) for precision in ("f32", "auto", "bf16")
    )
    assert [engine.float_precision for engine in (exact, auto, asked)] == ["f32", "bf16", "bf16"]

    def outputs(engine: OpenVinoEngine, part: str, bits: int, **state: np.ndarray) -> dict[str, np.ndarray]:
        return engine.load(toy, part, bits)({"frames": frames, **state})

    for bits in toy.precisions:
        expected, got = (outputs(engine, "recognition", bits)["features"] for engine in (exact, auto))
        if bits == 32:
            assert 35 < ratio(got, torch.from_numpy(expected)) < 80
        else:
            np.testing.assert_array_equal(got, expected)
    state = {"h": normal(1, HIDDEN), "c": normal(1, HIDDEN)}
    policies = [outputs(engine, "policy", 32, **state) for engine in (exact, auto, asked)]
    name = toy.graphs["policy"].outputs[0]
    np.testing.assert_array_equal(policies[0][name], policies[1][name])
    assert 20 < ratio(policies[2][name], torch.from_numpy(policies[0][name])) < 80


def test_where_the_cpu_has_no_bf16(monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert OpenVinoEngine(threads=1, float_precision="auto").float_precision == "f32"
    with pytest.raises(EngineError, match="float_precision='bf16': this CPU has no AVX512_BF16 or AMX; use"):
        OpenVinoEngine(threads=1, float_precision="bf16")


def test_policy(toy):
    run = load(toy, 32, part="policy")
    feed = {"frames": frames_of(16, (32, 32)), "h": normal(1, HIDDEN), "c": normal(1, HIDDEN, seed=1)}
    assert agreement(toy, 32, feed, part="policy") > 90
    whole, state, logits = run(feed), {name: feed[name] for name in "hc"}, []
    for frame in feed["frames"]:
        step = run({"frames": frame[None], **state})
        state = {"h": step["lstm.h"], "c": step["lstm.c"]}
        logits.append(step["logits"])
    np.testing.assert_allclose(np.concatenate(logits), whole["logits"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state["c"], whole["lstm.c"], rtol=1e-4, atol=1e-5)


def test_what_follows_an_integer_convolution_runs_inside_it(tmp_path):
    """At 4 bits: no sum, relu or quantization of its own but for the last norm; pools work on bytes."""
    bundle = Bundle.open(make_toy_bundle(tmp_path / "bundle", parent_bits=32, precisions=(32, 4, 2)))
    steps = executed(load(bundle, 4))
    kinds = [kind for kind, _, _ in steps]
    assert kinds.count("Convolution") == 6
    assert next(kernel for kind, kernel, _ in steps if kind == "Pooling").endswith("I8")
    alone = [fused for kind, _, fused in steps if kind in ("Eltwise", "FakeQuantize", "Subgraph")]
    assert len(alone) == 1 and "FakeQuantize" not in alone[0], alone  # the normalization of frames


@pytest.mark.parametrize(
    "change",
    [
        lambda x: np.ascontiguousarray(x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1),
        lambda x: np.repeat(x, 2, axis=0)[::2],
        lambda x: np.lib.stride_tricks.as_strided(x, writeable=False),
    ],
    ids=["transposed", "every other frame", "read only"],
)
def test_frames_in_any_layout(toy, change):
    frames = frames_of(6, (32, 32))
    run = load(toy, 4)
    want = run({"frames": frames})["features"]
    np.testing.assert_array_equal(run({"frames": change(frames)})["features"], want)


def test_results_are_the_callers(toy):
    run = load(toy, 4)
    first = run({"frames": frames_of(4, (32, 32))})["features"]
    kept = first.copy()
    run({"frames": frames_of(5, (32, 32))})
    np.testing.assert_array_equal(first, kept)


def test_what_openvino_refuses_is_one_line(monkeypatch, toy):
    engine = OpenVinoEngine(threads=1)

    class Core:
        def compile_model(self, *_):
            raise RuntimeError("Exception from core:\n  out of\n  memory\n")

    monkeypatch.setattr(openvino_engine, "process_core", Core)
    with pytest.raises(
        EngineError, match="cannot build recognition at 4 bits: Exception from core: out of memory"
    ):
        engine.load(toy, "recognition", 4)({"frames": frames_of(1, (32, 32))})


def test_an_openvino_without_the_option_for_shortcuts(monkeypatch, toy):
    engine = OpenVinoEngine(threads=1)
    compile_model = openvino_engine.process_core().compile_model

    class Core:
        def compile_model(self, model, device, config):
            if "SNIPPETS_MODE" in config:
                raise RuntimeError("unsupported property SNIPPETS_MODE")
            return compile_model(model, device, config)

    want = engine.load(toy, "recognition", 4)({"frames": frames_of(3, (32, 32))})["features"]
    monkeypatch.setattr(openvino_engine, "process_core", Core)
    got = engine.load(toy, "recognition", 4)({"frames": frames_of(3, (32, 32))})["features"]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


SIGNALS = """
import signal, sys, threading
from mmvideoiq.deploy.session import VideoSession

caught = 0

def count(*_):
    global caught
    caught += 1

numbers = (signal.SIGINT, signal.SIGCHLD, signal.SIGUSR1)
for number in numbers:
    signal.signal(number, count)

def send():
    for number in numbers:
        signal.pthread_kill(threading.get_ident(), number)

def work():
    first = VideoSession.open(sys.argv[1], threads=1)
    second = VideoSession.open(sys.argv[1], threads=1)
    del first
    send()
    del second
    send()

for _ in range(3):
    work()
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    send()
print("caught", caught > 0)
"""


def test_signals_while_sessions_come_and_go(tmp_path):
    path = make_toy_bundle(tmp_path / "toy")
    done = subprocess.run(
        [sys.executable, "-c", SIGNALS, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, "caught True\n"), done.stderr


FORK = """
import os, signal, sys
import numpy as np
from mmvideoiq.deploy.engines.base import EngineError
from mmvideoiq.deploy.session import VideoSession

frames = np.zeros((2, 32, 32, 3), np.uint8)

def in_child(*calls):
    child = os.fork()
    if not child:
        signal.alarm(30)
        for call in calls:
            try:
                call()
                print("works", flush=True)
            except EngineError as error:
                print(error, flush=True)
        os._exit(0)
    return os.waitpid(child, 0)[1]

def use():
    VideoSession.open(sys.argv[1], threads=2).run(frames)

ended = [in_child(use)]
session = VideoSession.open(sys.argv[1], threads=2)
session.run(frames)
ended.append(in_child(use, lambda: session.run(frames)))
session.run(frames)
print(ended)
"""


def test_a_forked_process_is_told_instead_of_waiting_forever(tmp_path):
    """A child works where the parent had not started OpenVINO, else every use is refused; the parent goes on."""
    path = make_toy_bundle(tmp_path / "toy")
    done = subprocess.run(
        [sys.executable, "-c", FORK, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    works, *refusals, ended = done.stdout.splitlines()
    assert (works, ended, done.returncode) == ("works", "[0, 0]", 0), done.stderr
    assert len(refusals) == 2
    for line in refusals:
        assert (
            line.startswith("the engine 'openvino' does not work in a process forked after")
            and "'spawn'" in line
        )
