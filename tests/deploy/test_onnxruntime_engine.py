"""The ONNX Runtime engine: bundles, numbers of frames, threads, errors."""

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from mmvideoiq.deploy.bundle.bundle import Bundle
from mmvideoiq.deploy.bundle.graph import Graph
from mmvideoiq.deploy.engines import onnxruntime_engine
from mmvideoiq.deploy.engines.base import EngineError
from mmvideoiq.deploy.engines.factory import open_engine
from mmvideoiq.deploy.engines.onnxruntime_engine import OnnxRuntimeEngine, frames_at_once
from tests.deploy.engine_cases import BOTH_CPUS, EXACT, normal, ratio
from tests.deploy.onnx_models import FakeBundle, agreement, chain, conv, frames_of, operators
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
@pytest.mark.parametrize("n", [1, 3, 16])
def test_recognition_at_every_precision(toy, n, vnni):
    """Codes may differ where a sum is on the very edge of rounding; all else follows from the engine's codes."""
    graph, frames = toy.graphs["recognition"], frames_of(n, 32, 32)
    quantizers = [step for step in graph if step.op == "quantize"]
    watched = Graph(
        inputs=graph.inputs, nodes=graph.nodes, outputs=(*graph.outputs, *(step.name for step in quantizers))
    )
    bundle = replace(toy, graphs={"recognition": watched})
    for bits in toy.precisions:
        got = OnnxRuntimeEngine(threads=1, vnni=vnni).load(bundle, "recognition", bits)({"frames": frames})
        known = {step.name: torch.from_numpy(got[step.name]) for step in quantizers}
        want = run_graph(toy, "recognition", bits, {"frames": torch.from_numpy(frames)}, known)
        assert ratio(got["features"], want["features"]) > EXACT
        for step in quantizers if bits < 32 else ():
            apart = np.abs(got[step.name] - want[step.name].numpy()) / step.grid(bits).step
            assert apart.max() < 1.01 and (apart > 0.5).mean() < 1e-3


@pytest.mark.parametrize("n", [1, 3, 16])
def test_policy(toy, n):
    feed = {"frames": frames_of(n, 32, 32), "h": normal(1, HIDDEN), "c": normal(1, HIDDEN)}
    assert agreement(toy, 32, feed, part="policy") > 90


def test_all_quantized_layers_run_on_integers_and_no_other(tmp_path):
    bundle = Bundle.open(make_toy_bundle(tmp_path / "bundle", parent_bits=32, precisions=(32, 4, 2)))
    convs = [step for step in bundle.graphs["recognition"] if step.op == "conv"]
    quantized = sum(step.attrs["quantized"] for step in convs)
    for bits, on_integers in ((32, 0), (4, quantized), (2, quantized)):
        ops = operators(bundle, bits, part="recognition")
        assert ops.count("MatMulIntegerToFloat") + ops.count("ConvInteger") == on_integers
        assert ops.count("Conv") == len(convs) - on_integers


class Recorder:
    """A session that notes how many frames it gets."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def get_outputs(self) -> list[Any]:
        return [type("Output", (), {"name": "y"})]

    def run(self, outputs: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.sizes.append(len(inputs["frames"]))
        return [inputs["frames"]]


@pytest.mark.parametrize(
    ("at_once", "n", "sizes"), [(2, 5, [2, 2, 1]), (2, 1, [1]), (4, 8, [4, 4]), (None, 5, [5]), (2, 0, [0])]
)
def test_many_frames_run_a_few_at_a_time(at_once, n, sizes):
    session = Recorder()
    frames = np.arange(n)
    result = onnxruntime_engine.OnnxRuntimeRunner(session, at_once=at_once)({"frames": frames})
    np.testing.assert_array_equal(result["y"], frames)
    assert session.sizes == sizes


def test_clips_are_not_cut_and_sequences_neither(tmp_path):
    stem = conv("stem", (8, 3, 3, 3))
    assert frames_at_once(chain(stem)) == onnxruntime_engine.AT_ONCE
    assert (
        frames_at_once(chain(stem, ("shift", dict(frames=8, fold=1)), ("shift", dict(frames=8, fold=2)))) == 8
    )
    bundle = Bundle.open(make_toy_bundle(tmp_path / "bundle"))
    assert frames_at_once(bundle.graphs["policy"]) is None


def test_batch_neighbours_do_not_matter(toy):
    run = OnnxRuntimeEngine(threads=1).load(toy, "recognition", toy.precisions[-1])
    frames = frames_of(5, 32, 32)
    alone = np.concatenate([run({"frames": frame[None]})["features"] for frame in frames])
    np.testing.assert_allclose(run({"frames": frames})["features"], alone, rtol=1e-5, atol=1e-6)


def test_two_threads_give_the_same(toy):
    bits, frames = toy.precisions[-1], frames_of(3, 32, 32)
    one, two = (
        OnnxRuntimeEngine(threads=n).load(toy, "recognition", bits)({"frames": frames}) for n in (1, 2)
    )
    np.testing.assert_allclose(one["features"], two["features"], rtol=1e-5, atol=1e-6)


def test_it_is_found_by_name_and_asks_the_cpu(monkeypatch):
    for found in (True, False):
        monkeypatch.setattr(onnxruntime_engine, "has_vnni", lambda found=found: found)
        engine = open_engine("onnxruntime", threads=2)
        assert (engine.name, engine.threads, engine.vnni) == ("onnxruntime", 2, found)
        assert OnnxRuntimeEngine(threads=1, vnni=not found).vnni is not found


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_what_is_not_installed_is_named(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(
        EngineError, match=f"{missing} is not installed; pip install onnx onnxruntime"
    ) as error:
        OnnxRuntimeEngine(threads=1)
    assert "\n" not in str(error.value)


def test_threads_must_be_positive():
    with pytest.raises(EngineError, match="threads=0: must be at least 1"):
        OnnxRuntimeEngine(threads=0)


def test_a_model_that_is_refused_is_one_line(monkeypatch):
    monkeypatch.setattr(onnxruntime_engine, "build_model", lambda *args, **kwargs: b"no model")
    with pytest.raises(EngineError, match="'onnxruntime' cannot build a at 4 bits: ") as error:
        OnnxRuntimeEngine(threads=1).load(FakeBundle({"a": chain()}), "a", 4)
    assert "\n" not in str(error.value)
