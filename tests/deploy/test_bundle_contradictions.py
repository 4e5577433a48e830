"""Bundles with right checksums that contradict themselves, or that no engine could run, do not open."""

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mmvideoiq.deploy.bundle.bundle import Bundle, BundleError
from tests.deploy.signed_bundle import FILES, canonical, change_graphs, change_tensors, refused, sign


def resize_first(manifest: dict[str, Any], size: int) -> None:
    """The first action becomes one of another size, everywhere."""
    manifest["actions"][0].update(size=size)
    for table in (manifest["gflops"], manifest["bitops"]):
        table[f"8@{size}"] = table.pop("8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("classes"), r"\$: 'classes' is a required property"),
        (lambda m: m.update(extra=1), r"\$: Additional properties .*'extra'"),
        (lambda m: m.update(classes=[]), r"\$.classes: \[\] should be non-empty"),
        (lambda m: m["classes"].append(3), r"\$.classes\[5\]: 3 is not of type 'string'"),
        (lambda m: m.update(classes=m["classes"][1:]), r"'head.weight' is float32 \(5, 16\), expected .*\(4, 16\)"),
        (lambda m: m["actions"][0].update(skip=1), r"\$.actions: Action needs exactly one of bits .* and skip"),
        (lambda m: m["actions"][3].update(size=16), r"\$.actions\[3\]: 'bits' is a dependency of 'size'"),
        (lambda m: m["actions"][0].update(size=0), r"\$.actions\[0\].size: 0 is less than the minimum of 1"),
        (lambda m: resize_first(m, 48), r"size 48 is larger than the frame \(32x32\): use at most 32"),
        (lambda m: resize_first(m, 16), r"lacks the tensor 'net.block.conv1.bias.8@16'"),
        (lambda m: m["actions"][0].clear(), r"\$.actions\[0\]: "),
        (lambda m: m["actions"].append({"skip": 1}), r"\$.actions: .*repeat skip"),
        (lambda m: m["actions"].reverse(), r"\$.actions: .*must be ordered"),
        (lambda m: m["actions"][0].update(bits=6), r"\$.actions: \[6\] are not among precisions \[8, 4, 2\]"),
        (lambda m: m["actions"][0].update(bits=16), r"\$.actions\[0\].bits: 16 is not one of"),
        (lambda m: m["cost"]["values"].pop(), r"\$.cost.values: 3 figures for 4 actions"),
        (lambda m: m["cost"]["values"].__setitem__(2, "a"), r"\$.cost.values\[2\]: 'a' is not of type 'number'"),
        (lambda m: m["cost"]["values"].__setitem__(2, True), r"\$.cost.values\[2\]: True is not"),
        (lambda m: m.update(all_skip="first"), r"\$.all_skip: 'first' is not one of"),
        (lambda m: m.update(precisions=[4, 8, 2]), r"\$.precisions: \[4, 8, 2\] must fall"),
        (lambda m: m.update(precisions=[8, 8, 4]), r"\$.precisions: .*must fall"),
        (lambda m: m.update(precisions=[8, 4, 2, 1]), r"lacks the tensor 'net.block.conv1.bias.1'"),
        (lambda m: m.update(parent_bits=4), r"\$.parent_bits: 4 is below the highest"),
        (lambda m: m.update(parent_bits=32), r"lacks the tensor"),
        (lambda m: m.update(parent_bits=8.0), r"\$.parent_bits: 8.0 is not of type 'integer'"),
        (lambda m: m["actions"][0].update(bits=8.0), r"\$.actions\[0\].bits: 8.0 is not of type 'integer'"),
        (lambda m: m["preprocessing"].update(frames=8.0), r"\$.preprocessing.frames: 8.0 is not of type 'integer'"),
        (lambda m: m["preprocessing"].update(frames=0), r"\$.preprocessing.frames: 0 is less than"),
        (lambda m: m["preprocessing"].update(std=[1, 0, 1]), r"\$.preprocessing.std\[1\]: 0 is less"),
        (lambda m: m["preprocessing"].update(mean=[1, 0]), r"\$.preprocessing.mean: \[1, 0\] is too short"),
        (lambda m: m["preprocessing"].update(short_side=31), r"crop: 32 is larger than short_side 31"),
        (lambda m: m["preprocessing"].update(crop=16), r"\$.recognition.inputs.frames: .*expected \[-1, 16, 16"),
        (lambda m: m["gflops"].pop("4"), r"\$.gflops: no figure for the actions 4"),
        (lambda m: m["bitops"].update({"5": 1}), r"\$.bitops: \['5'\] are no actions; there are 8, 4, 2, skip"),
        (lambda m: m.update(latency_ms={"engine": "x"}), r"\$.latency_ms: 'threads' is a required"),
        (lambda m: m.update(budget=[{"multiplier": 1}]), r"\$.budget\[0\]: 'cost' is a required"),
        (
            lambda m: m.update(budget=[dict(multiplier=1, cost=1, accuracy=None, usage=[1])]),
            r"\$.budget\[0\].usage: 1 figures for 4 actions",
        ),
        (
            lambda m: m.update(budget=[dict(multiplier=1, cost=1, accuracy=1, usage=[1, 0, 0, 0])] * 2),
            r"\$.budget: multipliers \[1, 1\] must rise",
        ),
        (lambda m: m["files"].pop("graphs.json"), r"\$.files: 'graphs.json' is a required"),
        (lambda m: m["files"].update({"../x": m["files"]["graphs.json"]}), r"\$.files: Additional .*'../x'"),
        (lambda m: m["files"].pop("policy.safetensors"), "policy.safetensors: is not part of this bundle"),
        (lambda m: m["files"]["graphs.json"].update(bytes=1), "graphs.json: is damaged: it has .* in place of 1"),
        (lambda m: m["files"]["graphs.json"].update(sha256="0" * 64), "graphs.json: is damaged: its checksum"),
        (lambda m: m["files"]["graphs.json"].update(sha256="0"), r"\$.files\['graphs.json'\].sha256: '0' does"),
    ],
)  # fmt: skip
def test_a_signed_manifest_that_is_wrong(copy, change, message):
    sign(copy, change)
    assert re.search(message, refused(copy))


def node_of(graphs: dict[str, Any], name: str) -> dict[str, Any]:
    return next(node for graph in graphs.values() for node in graph["nodes"] if node["name"] == name)


def _move_lstm(graphs: dict[str, Any]) -> None:
    graphs["recognition"]["inputs"].update(h=[1, 12], c=[1, 12])
    graphs["recognition"]["nodes"].append({**node_of(graphs, "lstm"), "inputs": ["features", "h", "c"]})


def _attr(node: str, key: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda graphs: node_of(graphs, node)["attrs"].update({key: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: g.pop("recognition"), r"\$: 'recognition' is a required"),
        (lambda g: g.pop("policy"), r"holds graphs of \['recognition'\], there are tensors of"),
        (lambda g: g.update(teacher=g["policy"]), r"\$: Additional properties .*'teacher'"),
        (lambda g: g["policy"]["nodes"].clear(), r"\$.policy.nodes: \[\] should be non-empty"),
        (lambda g: g["policy"]["nodes"].append(3), r"\$.policy.nodes\[9\]: 3 is not of type 'object'"),
        (lambda g: g["policy"]["nodes"].pop(0), r"node 'resize' reads \['normalize'\]"),
        (lambda g: g["policy"]["nodes"].append(g["policy"]["nodes"][0]), "'normalize'.* is given twice"),
        (lambda g: g["policy"]["nodes"][0].pop("attrs"), r"\$.policy.nodes\[0\]: 'attrs' is a required"),
        (lambda g: g["policy"]["nodes"][0].update(op="exec"), r"\$.policy.nodes\[0\].op: 'exec' is not one of"),
        (lambda g: g["policy"]["inputs"].pop("frames"), r"\$.policy.inputs: 'frames' is a required"),
        (lambda g: g["policy"]["inputs"].update(frames=[-1, 3]), r"\$.policy.inputs.frames: \[-1, 3\], expected"),
        (lambda g: g["policy"]["inputs"].update(h=[1, 9]), r"node 'lstm' .*\[8, 9, 12\].*expected \[8, 12, 12\]"),
        (lambda g: g["policy"].update(outputs=["zzz"]), r"outputs \['zzz'\] are given by no node"),
        (lambda g: g["policy"].update(outputs=["lstm.h"]), r"\$.policy.outputs: 12 logits for 4 actions"),
        (lambda g: g["recognition"].update(outputs=["stem"]), "gives 4 dimensions, expected 2"),
        (_attr("stem", "kernel", 3), r"\$.recognition.nodes\[1\].attrs: Additional .*'kernel'"),
        (_attr("stem", "shape", [8, 3, 3]), r"\$.recognition.nodes\[1\].attrs.shape: \[8, 3, 3\] is too short"),
        (_attr("stem", "shape", [8, 3, 3, 0]), r"attrs.shape\[3\]: 0 is less than the minimum of 1"),
        (_attr("stem", "shape", [8, 3, 3, 5]), r"'net.stem.weight' is .*3, 3\), expected .*3, 5\)"),
        (_attr("stem", "shape", [8, 4, 3, 3]), r"node 'stem' \(conv\): inputs of \[3\] .* expected \[4\]"),
        (_attr("stem", "stride", [2**31, 1]), r"attrs.stride\[0\]: 2147483648 is greater than the maximum"),
        (_attr("stem", "stride", 2), r"attrs.stride: 2 is not of type 'array'"),
        (_attr("stem", "stride", [2.0, 2]), r"attrs.stride\[0\]: 2.0 is not of type 'integer'"),
        (_attr("stem", "padding", [-1, 0]), r"attrs.padding\[0\]: -1 is less than"),
        (_attr("stem", "quantized", 1), r"attrs.quantized: 1 is not of type 'boolean'"),
        (_attr("stem", "quantized", True), "lacks the tensor 'net.stem.codes'"),
        (_attr("grouped", "groups", 2), r"node 'grouped' \(conv\): inputs of \[16\] .* expected \[8\]"),
        (_attr("stem", "layer", "net.signed"), "two layers claim the tensor 'net.signed.gain.8'"),
        (_attr("norm", "channels", 15), r"node 'norm' \(affine\): inputs of \[16\] .* expected \[15\]"),
        (_attr("normalize", "mean", [1.0]), r"node 'normalize' \(normalize\): inputs of \[3\]"),
        (_attr("lstm", "hidden", 13), r"node 'lstm' .*expected \[8, 13, 13\]"),
        (_attr("logits", "quantized", True), "node 'logits': the policy has no codes"),
        (_attr("block.input", "grids", {"4": [1, 0, 16, 0]}), r"grids\['4'\]: codes are 0..16, expected .*2\*\*4"),
        (_attr("block.input", "grids", {"4": [1, -8, 8, 0]}), r"grids\['4'\]: codes are -8..8"),
        (_attr("block.input", "grids", {"4": [1, -3, 4, 0]}), r"grids\['4'\]: codes are -3..4, expected from 0 or"),
        (_attr("block.input", "grids", {"32": [1, 0, 1, 0]}), r"attrs.grids: '32' is not one of"),
        (_attr("block.input", "grids", {"9": [1, 0, 1, 0]}), r"attrs.grids: '9' is not one of"),
        (_attr("block.input", "grids", {"8": [1, 0, 1]}), r"attrs.grids\['8'\]: \[1, 0, 1\] is too short"),
        (_attr("block.input", "grids", {"8": [1, 0, 1, 0, 0]}), r"attrs.grids\['8'\]: "),
        (_attr("block.input", "grids", {"8": [0, 0, 1, 0]}), r"attrs.grids\['8'\]\[0\]: 0 is less"),
        (_attr("block.input", "grids", {"8": [1, 0, 1.5, 0]}), r"attrs.grids\['8'\]\[2\]: 1.5 is not"),
        (lambda g: node_of(g, "block.add").update(inputs=["stem", "block.conv2"]), r"\(add\): inputs of \[8, 12\]"),
        (_attr("depthwise", "shape", [9, 1, 3, 3]), r"node 'depthwise' \(conv\): 8 groups do not divide 9"),
        (_move_lstm, "recognition: node 'lstm': an lstm belongs to the policy"),
        (lambda g: g["recognition"]["inputs"].update(frames=[4, 32, 32, 3]), "input 'frames' is .4, 32"),
        (lambda g: g["recognition"]["inputs"].update(more=[-1, 3]), "input 'more' is neither"),
        (lambda g: g["policy"]["inputs"].update(h=[-1, 12]), "input 'h' is "),
        (_attr("block.conv1", "dilation", [10**7] * 2), "node 'block.conv1' .conv.: .*beyond"),
        (_attr("block.conv1", "dilation", [100] * 2), "node 'block.conv1' .conv.: the output would be"),
        (lambda g: g["recognition"].update(outputs=["block.conv1"]), "'block.conv1' gives 4 dimensions"),
    ],
)  # fmt: skip
def test_signed_graphs_that_are_wrong(copy, change, message):
    change_graphs(copy, change)
    assert re.search(message, refused(copy))


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("policy", lambda t: t.pop("fc.step"), "policy.safetensors: lacks the tensor 'fc.step'"),
        ("policy", lambda t: t.update(x=t["fc.step"]), "policy.safetensors: holds the tensor 'x', which nothing"),
        ("policy", lambda t: t.update({"fc.step": t["fc.step"][:1]}), r"'fc.step' is float32 \(1,\), expected"),
        ("policy", lambda t: t.update({"fc.step": t["fc.step"].astype(np.float16)}), "'fc.step' is F16"),
        ("policy", lambda t: t.update({"fc.int16": t["fc.int16"].T.copy()}), r"is int16 \(12, 4\), expected"),
        ("recognition", lambda t: t.update({"net.stem.gain.8": t["net.stem.gain"]}), "'net.stem.gain.8', which"),
        ("recognition", lambda t: t.update({"net.signed.codes": t["net.signed.codes"][1:]}), r"is uint8 \(191,\)"),
        ("recognition", lambda t: t.update({"net.signed.scale.2": t["net.signed.scale.2"][:1]}), "'net.signed.sca"),
    ],
)  # fmt: skip
def test_signed_tensors_that_do_not_fit_the_graph(copy, part, change, message):
    change_tensors(copy, part, change)
    assert re.search(message, refused(copy))


def paths(value: Any, start: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a tree of JSON; the root aside."""
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [path for key, item in children for path in [(*start, key), *paths(item, (*start, key))]]


ODD = [None, True, 0, -1, 32, 2**70, 1.5, 8.0, 1e308, "", "8", [], [1], [[1]], [-1, 3], [None], {}, {"8": 1}]


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES[:2])
def test_whatever_is_signed_opens_and_works_or_is_refused(copy, name):
    """One value of the tree replaced by another one, many times: no other error escapes."""
    rng, tree = np.random.default_rng(0), json.loads((copy / name).read_text())
    places, opened = [path for path in paths(tree) if path[0] not in ("files", "digest")], 0
    for _ in range(1500):
        changed = json.loads(json.dumps(tree))
        *way, last = places[rng.integers(len(places))]
        value = ODD[rng.integers(len(ODD))]
        parent = changed
        for key in way:
            parent = parent[key]
        parent[last] = value
        (copy / name).write_bytes(canonical(changed))
        sign(copy)
        try:
            bundle = Bundle.open(copy)
        except BundleError as error:
            assert "\n" not in str(error)
            continue
        opened += 1
        for part, graph in bundle.graphs.items():
            for node in graph:
                if node.op == "lstm":
                    bundle.lstm(part, node)
                elif "layer" in node.attrs:
                    bundle.layer(part, node, bundle.precisions[-1])
    assert 30 < opened < 500


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite(copy, value):
    change_tensors(copy, "recognition", lambda tensors: tensors["head.bias"].__setitem__(0, value))
    sign(copy)
    assert "'head.bias' holds numbers that are not finite" in refused(copy)
