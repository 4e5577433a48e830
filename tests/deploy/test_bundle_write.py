"""A bundle is written as a whole or not at all, and replaces nothing but a bundle."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import SafetensorError

from mmvideoiq.deploy.bundle import files as bundle_files
from mmvideoiq.deploy.bundle.bundle import Bundle, BundleError, write_bundle
from tests.deploy.signed_bundle import FILES, sign
from tests.deploy.toy_bundle import make_toy_bundle, toy_parts


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
        BundleError, match=rf"^cannot write {path}: something that is not a bundle.*another path$"
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


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_divisors_must_be_positive(tmp_path, value):
    parts = toy_parts(parent_bits=32, precisions=(32, 2))
    parts["tensors"]["recognition"]["net.signed.divisor"][-1] = value
    with pytest.raises(BundleError, match=r"'net\.signed\.divisor' holds numbers that are not positive"):
        write_bundle(tmp_path / "b", **parts)
