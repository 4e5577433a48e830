"""Bundles: what is written comes back, its size is the formula's, and nothing damaged or contradictory opens."""

import hashlib
import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import SafetensorError

from mmvideoiq import __version__
from mmvideoiq.actions import ActionSpace
from mmvideoiq.deploy.bundle import files as bundle_files
from mmvideoiq.deploy.bundle.bundle import Bundle, BundleError, write_bundle
from mmvideoiq.deploy.bundle.graph import Graph
from mmvideoiq.deploy.bundle.packing import codes_by_thresholds, unpack
from mmvideoiq.deploy.bundle.tensors import policy_bytes, recognition_bytes
from tests.deploy.signed_bundle import canonical, change_graphs, change_tensors, sign
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
FILES = ("manifest.json", "graphs.json", "recognition.safetensors", "policy.safetensors")


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    """A bundle that tests leave as it is."""
    return make_toy_bundle(tmp_path_factory.mktemp("bundle") / "toy")


@pytest.fixture
def copy(toy, tmp_path) -> Path:
    """A bundle to damage."""
    return Path(shutil.copytree(toy, tmp_path / "copy"))


def refused(path: Path) -> str:
    """The message with which a bundle does not open: one line that begins with the place."""
    with pytest.raises(BundleError) as caught:
        Bundle.open(path)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 1200 and message.startswith(str(path))
    return message


# --- what is written comes back ---------------------------------------------------------------------------


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
        for name, array in tensors.items():
            found = bundle.tensor(part, name)
            assert found.dtype == array.dtype
            np.testing.assert_array_equal(found, array)


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
        (lambda: bundle.layer("recognition", nodes["stem.relu"], 8), r"node 'stem.relu' \(relu\) is no conv"),
        (lambda: bundle.layer("policy", nodes["lstm"], 32), r"node 'lstm' \(lstm\) is no conv"),
        (lambda: bundle.layer("recognition", nodes["stem"], 6), r"bits=6: .* has the precisions \(8, 4, 2\)"),
        (lambda: bundle.lstm("policy", nodes["conv"]), r"node 'conv' \(conv\) is no lstm"),
        (lambda: bundle.tensor("policy", "nothing"), "has no tensor 'nothing'"),
        (lambda: bundle.tensor("teacher", "x"), "has no part 'teacher'; it has recognition, policy"),
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
    bundle = Bundle.open(tmp_path / "b")
    for part, tensors in plain.items():
        for name, array in tensors.items():
            np.testing.assert_array_equal(bundle.tensor(part, name), array)


def test_tensors_are_copies_of_the_file(toy):
    bundle = Bundle.open(toy)
    before = bundle.tensor("recognition", "head.bias")
    changed = bundle.tensor("recognition", "head.bias")
    changed[:] = 7
    np.testing.assert_array_equal(bundle.tensor("recognition", "head.bias"), before)


# --- size -------------------------------------------------------------------------------------------------


def data_bytes(file: Path) -> int:
    """Bytes of a safetensors file behind its header."""
    data = file.read_bytes()
    return len(data) - 8 - int.from_bytes(data[:8], "little")


@variants
def test_bytes_equal_the_formula(tmp_path, options):
    bundle = Bundle.open(make_toy_bundle(tmp_path / "b", **options))
    graph, precisions, parent = (
        bundle.graphs["recognition"],
        bundle.precisions,
        bundle.manifest["parent_bits"],
    )
    dorefa, stem = options.get("grid") == "dorefa", not options.get("quantize_stem")
    layers = [node.attrs["layer"] for node in graph if node.op == "conv" and node.attrs["quantized"]]
    found = recognition_bytes(
        graph,
        classes=5,
        precisions=precisions,
        parent_bits=parent,
        shared={"net.stem"} if stem else (),
        uniform=layers if dorefa else (),
    )
    assert (
        found == data_bytes(tmp_path / "b/recognition.safetensors") == _by_hand(graph, bundle, dorefa, stem)
    )
    if "policy" in bundle.graphs:
        size = policy_bytes(bundle.graphs["policy"])
        assert size == data_bytes(tmp_path / "b/policy.safetensors")
        actions = len(bundle.actions)
        conv, depthwise, linear = 2 * 8 * 27 + 12 * 8, 2 * 8 * 9 + 12 * 8, 2 * actions * 12 + 12 * actions
        assert size == conv + depthwise + linear + 8 * 12 * (8 + 12) + 48 * 12


def _by_hand(graph: Graph, bundle: Bundle, one_scale: bool, shared_stem: bool) -> int:
    """The table of ``recognition_bytes``, term by term."""
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


def resnet50() -> Graph:
    """The convolutions of a ResNet-50, for its shapes."""
    nodes: list[dict[str, Any]] = []

    def conv(name: str, x: str, out: int, inputs: int, kernel: int, stride: int = 1) -> str:
        sizes = dict(
            stride=[stride] * 2,
            padding=[kernel // 2] * 2,
            dilation=[1, 1],
            groups=1,
            quantized=name != "stem",
        )
        attrs = dict(layer=name, shape=[out, inputs, kernel, kernel], **sizes)
        nodes.append(dict(op="conv", name=name, inputs=[x], attrs=attrs))
        return name

    x, width = conv("stem", "frames", 64, 3, 7, 2), 64
    for stage, (blocks, planes) in enumerate(zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True)):
        for block in range(blocks):
            name, stride = f"{stage}.{block}", 2 if stage and not block else 1
            y = conv(f"{name}.1", x, planes, width, 1)
            y = conv(f"{name}.3", conv(f"{name}.2", y, planes, planes, 3, stride), 4 * planes, planes, 1)
            shortcut = x if block else conv(f"{name}.0", x, 4 * planes, width, 1, stride)
            nodes.append(dict(op="add", name=f"{name}.add", inputs=[y, shortcut], attrs={}))
            x, width = f"{name}.add", 4 * planes
    return Graph.from_json(dict(inputs={"frames": [-1, 224, 224, 3]}, nodes=nodes, outputs=[x]))


@pytest.mark.parametrize("uniform", [False, True])
def test_lower_precisions_of_a_resnet50_cost_almost_nothing(uniform):
    graph = resnet50()
    layers = [node.attrs["layer"] for node in graph if node.op == "conv"]
    weights = sum(np.prod(node.attrs["shape"]) for node in graph if node.op == "conv")
    assert (len(layers), weights) == (53, 23_454_912)

    def size(*precisions: int) -> int:
        return recognition_bytes(
            graph, classes=2, precisions=precisions, parent_bits=8, uniform=layers if uniform else ()
        )

    assert weights < size(8) < size(8, 4, 2) <= 1.05 * size(8)


# --- writing: as a whole or not at all --------------------------------------------------------------------


def test_a_bundle_is_replaced(tmp_path):
    first = Bundle.open(make_toy_bundle(tmp_path / "b", seed=0))
    bias = first.head()[1]
    make_toy_bundle(tmp_path / "b", seed=1, policy=False)
    second = Bundle.open(tmp_path / "b")
    assert not np.array_equal(second.head()[1], bias) and list(second.graphs) == ["recognition"]
    assert os.listdir(tmp_path) == ["b"]
    np.testing.assert_array_equal(first.head()[1], bias)  # who has the old one open reads on


@pytest.mark.parametrize("damage", ["version", "bytes"])
def test_a_damaged_bundle_is_replaced(copy, damage):
    if damage == "version":
        sign(copy, lambda manifest: manifest.update(version=99))
    else:
        (copy / "graphs.json").write_bytes(b"")
    make_toy_bundle(copy)
    Bundle.open(copy)


def test_folders_are_made_and_have_ordinary_permissions(tmp_path):
    make_toy_bundle(tmp_path / "a/b/c")
    (tmp_path / "ordinary").mkdir()
    (tmp_path / "file").write_bytes(b"")
    assert (tmp_path / "a/b/c").stat().st_mode == (tmp_path / "ordinary").stat().st_mode
    assert {(tmp_path / "a/b/c" / name).stat().st_mode for name in FILES} == {
        (tmp_path / "file").stat().st_mode
    }


def test_a_link_to_a_bundle_stays_a_link(tmp_path):
    make_toy_bundle(tmp_path / "real", seed=0)
    (tmp_path / "link").symlink_to("real")
    make_toy_bundle(tmp_path / "link", seed=1)
    assert (tmp_path / "link").is_symlink() and sorted(os.listdir(tmp_path)) == ["link", "real"]
    assert (
        Bundle.open(tmp_path / "real").head()[1].tolist() == Bundle.open(tmp_path / "link").head()[1].tolist()
    )


def _file(path: Path) -> None:
    path.write_text("mine")


def _empty(path: Path) -> None:
    path.mkdir()


def _notes(path: Path) -> None:
    make_toy_bundle(path)
    (path / "notes.txt").write_text("mine")


def _other_json(path: Path) -> None:
    path.mkdir()
    (path / "manifest.json").write_text("[1]")


def _no_json(path: Path) -> None:
    path.mkdir()
    (path / "manifest.json").write_text("{")


@pytest.mark.parametrize("stand", [_file, _empty, _notes, _other_json, _no_json])
def test_nothing_but_a_bundle_is_replaced(tmp_path, stand):
    path = tmp_path / "b"
    stand(path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(
        BundleError, match=rf"^cannot write {path}: something that is no bundle.*another path$"
    ):
        make_toy_bundle(path)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert os.listdir(tmp_path) == ["b"]


def _disk_full(*args: Any, **kwargs: Any) -> None:
    raise OSError(28, "No space left on device")


def _rust_error(*args: Any, **kwargs: Any) -> None:
    raise SafetensorError("Error while serializing: I/O error")


@pytest.mark.parametrize("failure", [_disk_full, _rust_error])
@pytest.mark.parametrize("there", [True, False])
def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch, failure, there):
    if there:
        make_toy_bundle(tmp_path / "b", seed=0)
    monkeypatch.setattr(bundle_files, "save", failure)
    with pytest.raises(BundleError, match=r"^cannot write .*b: .*(No space left|I/O error)"):
        make_toy_bundle(tmp_path / "b", seed=1)
    assert os.listdir(tmp_path) == (["b"] if there else [])
    if there:
        Bundle.open(tmp_path / "b")


@pytest.mark.parametrize(
    "error", [OSError(5, "Input/output error"), KeyboardInterrupt()], ids=["io", "ctrl-c"]
)
@pytest.mark.parametrize("late", [False, True])
def test_a_failure_between_the_renames_puts_the_old_one_back(tmp_path, monkeypatch, error, late):
    make_toy_bundle(tmp_path / "b", seed=0)
    before, rename = (tmp_path / "b/manifest.json").read_bytes(), Path.rename

    def fail(self: Path, target: Path) -> None:
        """Before the new folder moves, or just after the old one has moved."""
        if self.name == "new" and not late:
            raise error
        rename(self, target)
        if target.name == "old" and late:
            raise error

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(BundleError if isinstance(error, OSError) else KeyboardInterrupt):
        make_toy_bundle(tmp_path / "b", seed=1)
    assert os.listdir(tmp_path) == ["b"] and (tmp_path / "b/manifest.json").read_bytes() == before
    Bundle.open(tmp_path / "b")


def test_an_interruption_leaves_what_was_there(tmp_path, monkeypatch):
    make_toy_bundle(tmp_path / "b")

    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bundle_files, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_toy_bundle(tmp_path / "b")
    assert os.listdir(tmp_path) == ["b"]
    Bundle.open(tmp_path / "b")


def _set(kind: str, name: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda parts: parts["tensors"][kind].update({name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("recognition", "head.bias", np.zeros(5)), "'head.bias' is float64, expected one of"),
        (
            _set("recognition", "head.bias", np.zeros(4, np.float32)),
            r"is float32 \(4,\), expected float32 \(5,\)",
        ),
        (_set("recognition", "head.bias", np.zeros(5, np.int16)), "'head.bias' is int16"),
        (
            _set("recognition", "head.bias", np.full(5, np.nan, np.float32)),
            "'head.bias' holds numbers .*finite",
        ),
        (_set("policy", "fc.step", np.full(4, 3e38, np.float32)), "'fc.step' holds steps above 1.04e.34"),
        (_set("policy", "fc.gain", np.full(4, np.inf, np.float32)), "'fc.gain' holds numbers .*finite"),
        (_set("recognition", "x", np.zeros(5, np.float32)), "'x', which nothing in the graph uses"),
        (lambda p: p["tensors"]["recognition"].pop("net.stem.weight"), "lacks the tensor 'net.stem.weight'"),
        (lambda p: p["tensors"].pop("policy"), r"graphs of .*policy.*tensors of \['recognition'\]"),
        (lambda p: (p["tensors"].pop("recognition"), p["graphs"].pop("recognition")), "expected"),
        (lambda p: p["manifest"].update(note="x"), r"\$: Additional properties .*'note'"),
        (lambda p: p["manifest"].update(budget=()), r"\$.budget: \[\] should be non-empty"),
        (lambda p: p["manifest"]["cost"].update(values=np.ones(4)), "not JSON serializable"),
        (
            lambda p: p["manifest"]["gflops"].update({"8": float("nan")}),
            "manifest.json: .*not JSON compliant",
        ),
    ],
)
def test_what_does_not_fit_is_not_written(tmp_path, change, message):
    parts = toy_parts()
    change(parts)
    with pytest.raises(BundleError, match=rf"^cannot write .*{message}") as caught:
        write_bundle(tmp_path / "b", **parts)
    assert "\n" not in str(caught.value) and os.listdir(tmp_path) == []


@pytest.mark.parametrize("thresholds", [[2, 1, 0], [0, np.nan, 1]])
def test_thresholds_must_rise_and_may_be_infinite(tmp_path, thresholds):
    parts = toy_parts(parent_bits=32, precisions=(32, 2))
    name = "net.signed.thresholds"
    parts["tensors"]["recognition"][name] = np.array([0, np.inf, np.inf], np.float32)
    write_bundle(tmp_path / "b", **parts)
    parts["tensors"]["recognition"][name] = np.array(thresholds, np.float32)
    with pytest.raises(BundleError, match=f"{name!r} does not rise"):
        write_bundle(tmp_path / "b", **parts)


# --- opening: damage --------------------------------------------------------------------------------------


def places(data: bytes, name: str, count: int = 90) -> list[int]:
    """Byte positions: both ends, what frames a safetensors header, and ``count`` seeded ones."""
    edges = {0, 1, 7, 8, 9, len(data) // 2, len(data) - 2, len(data) - 1}
    if name.endswith(".safetensors"):
        end = 8 + int.from_bytes(data[:8], "little")  # of the header, which spaces fill up to it
        edges |= {*range(8), end - 2, end - 1, end, end + 1}
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    return sorted(edges | set(np.random.default_rng(seed).choice(len(data), count, replace=False).tolist()))


def test_every_flipped_byte_is_found(copy):
    rng, tried = np.random.default_rng(0), 0
    for name in FILES:
        file = copy / name
        data = file.read_bytes()
        for place in places(data, name):
            flip = int(rng.integers(1, 256))
            file.write_bytes(data[:place] + bytes([data[place] ^ flip]) + data[place + 1 :])
            assert f"{file}: " in refused(copy)
            tried += 1
        file.write_bytes(data)
        Bundle.open(copy)
    assert tried >= 200


@pytest.mark.slow
def test_every_bit_of_the_manifest_counts(copy):
    file = copy / "manifest.json"
    data = file.read_bytes()
    for place in range(len(data)):
        for bit in range(8):
            file.write_bytes(data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :])
            refused(copy)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", [0, 1, 7, 8, 100, -1, "twice", "one more"])
def test_files_of_another_length(copy, name, kept):
    data = (copy / name).read_bytes()
    changed = (
        {"twice": data * 2, "one more": data + b"\n"}.get(kept) if isinstance(kept, str) else data[:kept]
    )
    (copy / name).write_bytes(changed)
    message = refused(copy)
    assert f"{copy / name}: " in message and "is damaged" in message and "export or download" in message


@pytest.mark.parametrize("name", FILES[1:])
def test_a_missing_file(copy, name):
    (copy / name).unlink()
    assert refused(copy) == f"{copy / name}: is missing; export or download the bundle again"


@pytest.mark.parametrize("name", FILES[1:])
def test_a_folder_in_place_of_a_file(copy, name):
    (copy / name).unlink()
    (copy / name).mkdir()
    assert f"{name}: is missing" in refused(copy)


def test_files_of_two_bundles_do_not_mix(copy, tmp_path):
    other = make_toy_bundle(tmp_path / "other", seed=1)
    shutil.copy(other / "policy.safetensors", copy)
    assert "policy.safetensors: is damaged: its checksum does not fit" in refused(copy)


def test_an_extra_file(copy):
    (copy / "notes.txt").write_text("")
    assert refused(copy) == f"{copy / 'notes.txt'}: is no part of this bundle; move it elsewhere"


def test_what_is_no_bundle(tmp_path):
    assert refused(tmp_path / "none").endswith("there is no such folder; check the path")
    assert refused(tmp_path).endswith("is no bundle: it holds no manifest.json; check the path")
    (tmp_path / "file").write_text("x")
    assert "holds no manifest.json" in refused(tmp_path / "file")
    (tmp_path / "manifest.json").write_bytes(canonical({"format": "other"}))
    assert refused(tmp_path).endswith(
        "is not the manifest of a bundle (format 'mmvideoiq-bundle'); check the path"
    )


def test_a_folder_that_may_not_be_read(toy, monkeypatch):
    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)
    message = refused(toy)
    assert "Permission denied" in message and message.endswith("check the path")


def test_a_newer_version_says_what_reads_it(copy):
    sign(copy, lambda manifest: manifest.update(version=2, made_by="mmvideoiq 7.1", unheard_of=[1]))
    assert refused(copy) == (
        f"{copy}/manifest.json: has version 2, this mmvideoiq {__version__} reads 1; "
        "upgrade mmvideoiq: the bundle was made by 'mmvideoiq 7.1'"
    )


@pytest.mark.parametrize("version", [0, -1, "1", 1.0, True, None])
def test_versions_that_never_were(copy, version):
    sign(copy, lambda manifest: manifest.update(version=version))
    assert f"has the unknown version {version!r}" in refused(copy)


# --- opening: hostile JSON --------------------------------------------------------------------------------

HOSTILE = {
    "nothing": b"",
    "blank": b" \n",
    "NaN": b'{"format": NaN}',
    "infinity": b'{"format": -Infinity}',
    "too large a float": b'{"format": "mmvideoiq-bundle", "version": 1, "x": 1e999}',
    "too long an integer": b'{"format": ' + b"9" * 5000 + b"}",
    "an integer": b"7",
    "null": b"null",
    "a list": b'["mmvideoiq-bundle"]',
    "deep lists": b"[" * 200_000 + b"]" * 200_000,
    "deep objects": b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
    "deep and unclosed": b"[" * 1_000_000,
    "deep inside": b'{"format": "mmvideoiq-bundle", "version": 1, "x": ' + b"[" * 900 + b"]" * 900 + b"}",
    "no text": b"\xff\xfe\x00{",
    "utf-16": '{"format": "mmvideoiq-bundle"}'.encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf{}",
    "half a character": b'{"format": "mmvideoiq-bundle", "version": 1, "x": "\\ud800"}',
    "repeated keys": b'{"format": "mmvideoiq-bundle", "format": "mmvideoiq-bundle", "version": 1}',
    "huge": b'"' + b"x" * 9 * 2**20 + b'"',
    "huge version": b'{"format": "mmvideoiq-bundle", "version": ' + b"9" * 4000 + b', "made_by": "'
    + b"line\\n" * 9000 + b'"}',
    "long names": b'{"format": "mmvideoiq-bundle", "version": 1, "' + b"x" * 100_000 + b'": 1}',
    "pickle": pickle.dumps({"format": "mmvideoiq-bundle", "version": 1}),
}  # fmt: skip


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("name", FILES[:2])
def test_hostile_json(copy, name, data):
    (copy / name).write_bytes(data)
    if name != "manifest.json":
        sign(copy)
    assert f"{copy / name}: " in refused(copy)


@pytest.mark.parametrize(
    ("kind", "message"),
    [("huge", "is larger than 8388608 bytes"), ("NaN", "no JSON (NaN is no number of JSON)")],
)
def test_messages_about_hostile_json(copy, kind, message):
    (copy / "manifest.json").write_bytes(HOSTILE[kind])
    assert message in refused(copy)


@pytest.mark.parametrize("value", ["x" * 10**6, [[]] * 10**5, {"a": "\n" * 1000}, 10**400, -(10**400), 1e300])
@pytest.mark.parametrize(
    "key", ["classes", "precisions", "parent_bits", "files", "budget", "made_by", "cost"]
)
def test_huge_values_in_a_signed_manifest(copy, key, value):
    sign(copy, lambda manifest: manifest.update({key: value}))
    if key == "made_by" and isinstance(value, str):
        Bundle.open(copy)  # any text will do there
    else:
        assert f"$.{key}" in refused(copy)


OTHER_SPELLINGS = {
    "tabs": lambda text: text.replace(" ", "\t", 1),
    "windows": lambda text: text.replace("\n", "\r\n"),
    "one line": lambda text: json.dumps(json.loads(text)),
    "longer number": lambda text: re.sub(r"(\d\.\d)\b", r"\g<1>0", text, count=1),
    "exponent": lambda text: re.sub(r"(\d\.\d)\b", r"\g<1>e0", text, count=1),
    "escaped": lambda text: text.replace('"c', '"\\u0063', 1),
    "repeated": lambda text: text.replace("{\n", '{\n "policy": 1,\n', 1),
    "other order": lambda text: json.dumps(dict(reversed(json.loads(text).items())), indent=1) + "\n",
}


@pytest.mark.parametrize("name", FILES[:2])
@pytest.mark.parametrize("spelling", OTHER_SPELLINGS.values(), ids=OTHER_SPELLINGS)
def test_the_same_json_written_otherwise_is_damage_too(copy, name, spelling):
    text = (copy / name).read_text()
    assert spelling(text) != text
    (copy / name).write_bytes(spelling(text).encode())
    if name != "manifest.json":
        sign(copy)
    assert f"{copy / name}: is damaged: " in refused(copy)


# --- opening: signed, yet wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("classes"), r"\$: 'classes' is a required property"),
        (lambda m: m.update(extra=1), r"\$: Additional properties .*'extra'"),
        (lambda m: m.update(classes=[]), r"\$.classes: \[\] should be non-empty"),
        (lambda m: m["classes"].append(3), r"\$.classes\[5\]: 3 is not of type 'string'"),
        (lambda m: m.update(classes=m["classes"][1:]), r"'head.weight' is float32 \(5, 16\), expected .*\(4, 16\)"),
        (lambda m: m["actions"][0].update(skip=1), r"\$.actions\[0\]: .* has too many properties"),
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
        (lambda m: m["files"].pop("policy.safetensors"), "policy.safetensors: is no part of this bundle"),
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
    ],
)  # fmt: skip
def test_signed_graphs_that_are_wrong(copy, change, message):
    change_graphs(copy, change)
    assert re.search(message, refused(copy))


def test_a_graph_that_adds_different_widths(copy):
    change_graphs(copy, lambda graphs: node_of(graphs, "block.add").update(inputs=["stem", "block.conv2"]))
    assert re.search(r"node 'block.add' \(add\): inputs of \[8, 12\] .*expected \[8, 8\]", refused(copy))


def test_groups_that_do_not_divide_the_outputs(copy):
    change_graphs(copy, lambda graphs: node_of(graphs, "depthwise")["attrs"].update(shape=[9, 1, 3, 3]))
    assert "node 'depthwise' (conv): 8 groups do not divide 9" in refused(copy)


def test_an_lstm_in_the_recognition_part(copy):
    def move(graphs: dict[str, Any]) -> None:
        graphs["recognition"]["inputs"].update(h=[1, 12], c=[1, 12])
        lstm = {**node_of(graphs, "lstm"), "inputs": ["features", "h", "c"]}
        graphs["recognition"]["nodes"].append(lstm)

    change_graphs(copy, move)
    assert "recognition: node 'lstm': an lstm belongs to the policy" in refused(copy)


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


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


HEADERS = {
    "empty": b"",
    "short": b"\x01",
    "long header": (2**63).to_bytes(8, "little") + b"{}",
    "header beyond the file": (99).to_bytes(8, "little") + b"{}",
    "no json": (4).to_bytes(8, "little") + b"{{{{",
    "deep": (10**5).to_bytes(8, "little") + b"[" * 10**5,
    "data missing": (58).to_bytes(8, "little")
    + b'{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}    ',
    "no tensors": (8).to_bytes(8, "little") + b"{}      ",
}


@pytest.mark.parametrize("data", HEADERS.values(), ids=HEADERS)
def test_signed_files_that_are_no_safetensors(copy, data):
    (copy / "policy.safetensors").write_bytes(data)
    sign(copy)
    assert "policy.safetensors: " in refused(copy)


@pytest.mark.parametrize("name", FILES)
def test_a_pickle_is_never_run(copy, tmp_path, name):
    (copy / name).write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    if name != "manifest.json":
        sign(copy)
    assert f"{copy / name}: " in refused(copy) and not (tmp_path / "sprung").exists()


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: g["recognition"]["inputs"].update(frames=[4, 32, 32, 3]), "input 'frames' is .4, 32"),
        (lambda g: g["recognition"]["inputs"].update(more=[-1, 3]), "input 'more' is neither"),
        (lambda g: g["policy"]["inputs"].update(h=[-1, 12]), "input 'h' is "),
        (
            lambda g: node_of(g, "block.conv1")["attrs"].update(dilation=[10**7, 10**7]),
            "node 'block.conv1' .conv.: .*beyond",
        ),
        (
            lambda g: node_of(g, "block.conv1")["attrs"].update(dilation=[100, 100]),
            "node 'block.conv1' .conv.: the output would be",
        ),
        (lambda g: g["recognition"].update(outputs=["block.conv1"]), "'block.conv1' gives 4 dimensions"),
    ],
)
def test_graphs_that_could_not_run(copy, change, message):
    change_graphs(copy, change)
    assert re.search(message, refused(copy))
