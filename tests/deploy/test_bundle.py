"""Bundles: what is written comes back, and its size is the formula's."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from mmvideoiq import __version__
from mmvideoiq.actions import ActionSpace
from mmvideoiq.deploy.bundle.bundle import Bundle, write_bundle
from mmvideoiq.deploy.bundle.graph import Graph
from mmvideoiq.deploy.bundle.packing import codes_by_thresholds, unpack
from tests.deploy.signed_bundle import FILES
from tests.deploy.toy_bundle import make_toy_bundle, toy_parts

VARIANTS = {
    "8-4-2": {},
    "32-4-2": dict(parent_bits=32, precisions=(32, 4, 2)),
    "dorefa": dict(grid="dorefa", quantize_stem=True),
    "dorefa-32": dict(grid="dorefa", parent_bits=32, precisions=(32, 8, 2)),
    "4-2": dict(parent_bits=4, precisions=(4, 2)),
    "7-5-3": dict(parent_bits=7, precisions=(7, 5, 3)),
    "below the parent": dict(parent_bits=8, precisions=(6, 2)),
    "float": dict(parent_bits=32, precisions=(32,)),
    "no policy": dict(policy=False),
}
variants = pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)


def same_tensors(found: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> None:
    assert {name: array.dtype for name, array in found.items()} == {
        name: array.dtype.newbyteorder("=") for name, array in want.items()
    }
    for name, array in want.items():
        np.testing.assert_array_equal(found[name], array)


# --- what is written comes back ----------------------------------------


@variants
def test_a_bundle_comes_back(tmp_path, options):
    parts = toy_parts(**options)
    write_bundle(tmp_path / "b", **parts)
    bundle = Bundle.open(tmp_path / "b")
    assert bundle.graphs == parts["graphs"] and list(bundle.graphs) == list(parts["graphs"])
    assert parts["manifest"].items() <= dict(bundle.manifest).items()
    assert bundle.manifest["format"] == "mmvideoiq-bundle" and bundle.manifest["version"] == 1
    assert bundle.manifest["made_by"] == f"mmvideoiq {__version__}"
    assert bundle.path == tmp_path / "b" and bundle.precisions == tuple(parts["manifest"]["precisions"])
    assert bundle.actions == ActionSpace(parts["manifest"]["actions"])
    assert bundle.costs.tolist() == list(bundle.actions.costs)
    for part, tensors in parts["tensors"].items():
        same_tensors(load_file(tmp_path / f"b/{part}.safetensors"), tensors)


@variants
def test_layers_of_every_precision(tmp_path, options):
    parts = toy_parts(**options)
    write_bundle(tmp_path / "b", **parts)
    bundle = Bundle.open(tmp_path / "b")
    parent_bits, given = parts["manifest"]["parent_bits"], parts["tensors"]["recognition"]
    integer = [bits for bits in bundle.precisions if bits <= 8]
    seen = set()
    for node in bundle.graphs["recognition"]:
        if "layer" not in node.attrs:
            continue
        name = node.attrs["layer"]
        for bits in bundle.precisions:
            layer = bundle.layer("recognition", node, bits)
            channels = layer.gain.shape[0]
            own = f".{bits}" if f"{name}.gain.{bits}" in given else ""
            np.testing.assert_array_equal(layer.gain, given[f"{name}.gain{own}"])
            np.testing.assert_array_equal(layer.bias, given[f"{name}.bias{own}"])
            assert layer.bits == bits
            if node.op == "affine":
                assert layer.weight is layer.codes is layer.scale is layer.offset is None
                seen.add("affine")
            elif not node.attrs["quantized"] or bits == 32:
                assert layer.codes is layer.scale is layer.offset is None
                np.testing.assert_array_equal(layer.weight, given[f"{name}.weight"])
                seen.add("weight")
            else:
                assert layer.weight is None and layer.codes.dtype == np.uint8
                if parent_bits == 32:
                    arrays = [given[f"{name}.{kind}"] for kind in ("weight", "divisor", "thresholds")]
                    parent, highest = codes_by_thresholds(*arrays), integer[0]
                else:
                    count = np.prod(node.attrs["shape"])
                    parent = unpack(given[f"{name}.codes"], count, parent_bits).reshape(node.attrs["shape"])
                    highest = parent_bits
                np.testing.assert_array_equal(layer.codes, parent >> (highest - bits))
                for found, kind in ((layer.scale, "scale"), (layer.offset, "offset")):
                    assert found.shape == (channels,) and found.dtype == np.float32 and found.flags.writeable
                    assert np.all(found == given[f"{name}.{kind}.{bits}"])
                seen.add("codes")
    no_float_weight = options.get("quantize_stem") and 32 not in bundle.precisions
    assert seen == {"affine", *(["codes"] if integer else []), *([] if no_float_weight else ["weight"])}


def test_layers_of_the_policy(toy):
    given, bundle = toy_parts()["tensors"]["policy"], Bundle.open(toy)
    for node in bundle.graphs["policy"]:
        if node.op in ("conv", "linear"):
            name = node.attrs["layer"]
            for bits in (32, 8):
                layer = bundle.layer("policy", node, bits)
                step = given[f"{name}.step"].reshape(-1, *[1] * (layer.weight.ndim - 1))
                assert layer.weight.dtype == np.float32 and layer.weight.shape == tuple(node.attrs["shape"])
                np.testing.assert_array_equal(layer.weight, given[f"{name}.int16"].astype(np.float32) * step)
                np.testing.assert_array_equal(layer.gain, given[f"{name}.gain"])
        if node.op == "lstm":
            weight_ih, weight_hh, bias = bundle.lstm("policy", node)
            assert weight_ih.shape == (48, 8) and weight_hh.shape == (48, 12) and bias.shape == (48,)
            assert {a.dtype for a in (weight_ih, weight_hh, bias)} == {np.dtype(np.float32)}
            whole, step = given["lstm.weight_hh.int16"], given["lstm.weight_hh.step"]
            np.testing.assert_array_equal(weight_hh, whole.astype(np.float32) * step[:, None])


def test_the_classifier(toy):
    given, (weight, bias) = toy_parts()["tensors"]["recognition"], Bundle.open(toy).head()
    np.testing.assert_array_equal(weight, given["head.weight"])
    np.testing.assert_array_equal(bias, given["head.bias"])


def test_what_is_asked_for_wrongly(toy, tmp_path):
    bundle = Bundle.open(toy)
    nodes = {node.name: node for graph in bundle.graphs.values() for node in graph}
    for call, message in [
        (
            lambda: bundle.layer("recognition", nodes["stem.relu"], 8),
            r"node 'stem.relu' \(relu\) is not a conv",
        ),
        (lambda: bundle.layer("policy", nodes["lstm"], 32), r"node 'lstm' \(lstm\) is not a conv"),
        (lambda: bundle.layer("recognition", nodes["stem"], 6), r"bits=6: .* has the precisions \(8, 4, 2\)"),
        (lambda: bundle.lstm("policy", nodes["conv"]), r"node 'conv' \(conv\) is not an lstm"),
        (lambda: bundle.lstm("teacher", nodes["lstm"]), "has no part 'teacher'; it has recognition, policy"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


def test_costs_of_a_rule(tmp_path):
    parts = toy_parts()
    space = ActionSpace(parts["manifest"]["actions"], cost="bitops")
    parts["manifest"]["cost"] = dict(rule="bitops", values=list(space.costs))
    write_bundle(tmp_path / "b", **parts)
    assert Bundle.open(tmp_path / "b").actions == space


def test_costs_of_a_measured_table(tmp_path):
    parts = toy_parts()
    parts["manifest"]["cost"] = dict(rule="times.json", values=[1.0, 0.7, 0.5, 0.01])
    write_bundle(tmp_path / "b", **parts)
    bundle = Bundle.open(tmp_path / "b")
    assert bundle.costs.tolist() == [1.0, 0.7, 0.5, 0.01] and bundle.actions.names == ("8", "4", "2", "skip")
    with pytest.raises(ValueError, match="read-only"):
        bundle.costs[0] = 0


def test_tables_and_a_budget(tmp_path):
    parts = toy_parts()
    extra = dict(
        budget=[
            dict(multiplier=-1.5, cost=0.9, accuracy=0.75, usage=[0.9, 0.1, 0.0, 0.0]),
            dict(multiplier=2.0, cost=0.1, accuracy=None, usage=[0.0, 0.1, 0.2, 0.7]),
        ],
        latency_ms=dict(
            engine="openvino", threads=2, cpu="one", actions={"8": 3.0, "4": 2, "2": 1}, policy=0.5
        ),
        classes=["läuft", "走る", "a\u2028b", 'with "quotes"', ""],
        preprocessing={**parts["manifest"]["preprocessing"], "short_side": None, "crop": None},
    )
    write_bundle(tmp_path / "b", **{**parts, "manifest": {**parts["manifest"], **extra}})
    assert extra.items() <= dict(Bundle.open(tmp_path / "b").manifest).items()


def test_the_same_model_gives_the_same_bytes(tmp_path):
    first, second = (make_toy_bundle(tmp_path / name) for name in "ab")
    for name in FILES:
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_arrays_of_any_layout_are_written_by_value(tmp_path):
    parts, plain = toy_parts(), toy_parts()["tensors"]
    for part, tensors in plain.items():
        parts["tensors"][part] = {
            name: np.asfortranarray(array.astype(array.dtype.newbyteorder(">")))
            for name, array in tensors.items()
        }
    write_bundle(tmp_path / "b", **parts)
    for part, tensors in plain.items():
        same_tensors(load_file(tmp_path / f"b/{part}.safetensors"), tensors)


def test_tensors_are_copies_of_the_file(toy):
    bundle = Bundle.open(toy)
    before = bundle.head()[1].copy()
    bundle.head()[1][:] = 7
    np.testing.assert_array_equal(bundle.head()[1], before)


# --- size ------------------------------------------------------------


def data_bytes(file: Path) -> int:
    """Bytes of a safetensors file behind its header."""
    data = file.read_bytes()
    return len(data) - 8 - int.from_bytes(data[:8], "little")


@variants
def test_bytes_equal_the_formula(tmp_path, options):
    bundle = Bundle.open(make_toy_bundle(tmp_path / "b", **options))
    one_scale, shared_stem = options.get("grid") == "dorefa", not options.get("quantize_stem")
    size = data_bytes(tmp_path / "b/recognition.safetensors")
    assert size == _by_hand(bundle.graphs["recognition"], bundle, one_scale, shared_stem)
    if "policy" in bundle.graphs:
        actions = len(bundle.actions)
        conv, depthwise, linear = 2 * 8 * 27 + 12 * 8, 2 * 8 * 9 + 12 * 8, 2 * actions * 12 + 12 * actions
        expected = conv + depthwise + linear + 8 * 12 * (8 + 12) + 48 * 12
        assert data_bytes(tmp_path / "b/policy.safetensors") == expected


def _by_hand(graph: Graph, bundle: Bundle, one_scale: bool, shared_stem: bool) -> int:
    """Bytes of the recognition part's tensors, term by term."""
    precisions, parent = bundle.precisions, bundle.manifest["parent_bits"]
    integer = [bits for bits in precisions if bits <= 8]
    total = 4 * 5 * (16 + 1)
    for node in graph:
        if node.op == "affine":
            total += 8 * len(precisions) * 16
        if node.op != "conv":
            continue
        out, count = node.attrs["shape"][0], int(np.prod(node.attrs["shape"]))
        total += 8 * out * (1 if node.name == "stem" and shared_stem else len(precisions))
        if not node.attrs["quantized"]:
            total += 4 * count
            continue
        total += 8 * len(integer) * (1 if one_scale else out)
        if parent <= 8:
            total += -(-count * parent // 8)
        else:
            total += 4 * count + ((2 ** integer[0] - 1 + out) * 4 if integer else 0)
    return total


def test_file_sizes(toy):
    assert Bundle.open(toy).file_bytes() == {name: (toy / name).stat().st_size for name in FILES}
