"""A model on disk: a folder of a manifest, the graphs, and the tensors of each part.

::

    manifest.json               what the model is and does; sizes and checksums of the other files
    graphs.json                 what is computed, by part: recognition, and a policy if there is one
    recognition.safetensors     its numbers: parent weights once, scales of each precision, biases of each mode
    policy.safetensors

What the JSON files may say is in ``schema.py``, which tensors there are in ``tensors.py``, how
files are checked and replaced in ``files.py``. Nothing in a bundle is code.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from mmvideoiq.actions import COST_RULES, ActionSpace, resized_shape
from mmvideoiq.deploy.bundle import files
from mmvideoiq.deploy.bundle.files import MANIFEST, InvalidFile, Tensors
from mmvideoiq.deploy.bundle.graph import Graph, Node
from mmvideoiq.deploy.bundle.packing import codes_by_thresholds, truncate, unpack
from mmvideoiq.deploy.bundle.schema import GRAPHS, check_agreement, check_graphs, check_manifest
from mmvideoiq.deploy.bundle.tensors import (
    FLOAT_BITS,
    PARTS,
    WEIGHTED,
    TensorSpec,
    choices,
    fixed_bits,
    modes_of,
    policy_specs,
    recognition_specs,
)
from mmvideoiq.video.preprocessing import Preprocessing

ZOO = "zoo:/"  # begins names of published models, which the commands look up; a Path has one slash


class BundleError(ValueError):
    """A bundle cannot be opened or written: one line that names the file, what is wrong, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """The numbers of one layer at one precision; axes: O output channels, I inputs per group.

    Attributes:
        weight: float32, (O, I, kh, kw) or (O, I); None where there are codes, and for an affine.
        codes: uint8, shaped like a weight, in [0, 2**bits); weight value = ``scale * codes + offset``.
        scale, offset: float32, (O,), with codes only.
        gain, bias: float32, (O,), applied to the layer's sum.
    """

    bits: int
    weight: np.ndarray | None = None
    codes: np.ndarray | None = None
    scale: np.ndarray | None = None
    offset: np.ndarray | None = None
    gain: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Bundle:
    """An opened bundle, found whole and consistent. Tensors are read from the files when asked for.

    Attributes:
        path: of the folder.
        manifest: as in the file.
        graphs: by part.
        actions: the action space; its costs are those of a rule, which a measured table replaces.
        costs: float64, (A,), cost of each action as the model was trained with.
        size: short side to which frames are resized for recognition (:meth:`sized`); None is their own.
    """

    path: Path
    manifest: Mapping[str, Any] = field(repr=False)
    graphs: Mapping[str, Graph] = field(repr=False)
    actions: ActionSpace
    costs: np.ndarray
    size: int | None = None
    _tensors: Mapping[str, Tensors] = field(repr=False)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Bundle:
        """Open a bundle and check everything: version, schema, checksums, tensors against graphs.

        Raises:
            BundleError: it is missing, damaged, contradictory, or of another version.
        """
        if str(path).startswith(ZOO):
            name = str(path).removeprefix(ZOO).lstrip("/")
            raise BundleError(
                f"{path} is a name of the zoo, not a folder: open mmvideoiq.zoo.download({name!r})"
            )
        try:
            return _open(Path(path))
        except InvalidFile as error:
            raise BundleError(f"{Path(path) / error.file}: {error.what}; {error.remedy}") from None
        except OSError as error:
            raise BundleError(f"{path}: cannot be read ({error}); check the path") from None

    @property
    def precisions(self) -> tuple[int, ...]:
        """High to low."""
        return tuple(self.manifest["precisions"])

    @property
    def policy_bits(self) -> int:
        """The one precision of the policy; 32 is float."""
        return fixed_bits(self.graphs["policy"])

    @property
    def preprocessing(self) -> Preprocessing:
        """How videos become frames."""
        steps = self.manifest["preprocessing"]
        height, width = self.graphs["recognition"].inputs["frames"][1:3]
        sampling = {key: steps[key] for key in ("sampling", "tolerance_s") if key in steps}
        return Preprocessing(steps["frames"], steps["short_side"], steps["crop"], (height, width), **sampling)

    def sized(self, size: int | None) -> Bundle:
        """This bundle with the recognition graph and the numbers of the modes of ``size``; None: as it is.

        Raises:
            ValueError: ``size`` is larger than the frame.
        """
        if size is None:
            return self
        graph = self.graphs["recognition"]
        height, width = graph.inputs["frames"][1:3]
        resized = graph.resized(resized_shape(height, width, size))
        return replace(self, graphs={**self.graphs, "recognition": resized}, size=size)

    def layer(self, part: str, node: Node, bits: int) -> Layer:
        """The numbers of a conv, linear or affine node at ``bits``; those of the policy have its own bits.

        Codes below the parent's bits are the parent's, shifted.

        Raises:
            ValueError: a node of another kind, or bits that are not among the precisions.
        """
        if node.op not in (*WEIGHTED, "affine"):
            raise ValueError(f"node {node.name!r} ({node.op}) is not a conv, linear or affine")
        if part == "recognition" and bits not in self.precisions:
            raise ValueError(f"bits={bits}: {self.path} has the precisions {self.precisions}")
        if part == "policy":
            bits = self.policy_bits
        read, name = self._part(part), node.attrs["layer"]
        mode = f"{bits}" if self.size is None else f"{bits}@{self.size}"
        suffix = "" if f"{name}.gain" in read.specs else f".{mode}"
        gain, bias = read(f"{name}.gain{suffix}"), read(f"{name}.bias{suffix}")
        if node.op == "affine":
            return Layer(bits=bits, gain=gain, bias=bias)
        if not node.attrs["quantized"] or bits == FLOAT_BITS:
            weight = read(f"{name}.weight") if f"{name}.weight" in read.specs else read.int16(name)
            return Layer(bits=bits, weight=weight, gain=gain, bias=bias)
        scale, offset = (
            np.broadcast_to(read(f"{name}.{kind}.{bits}"), gain.shape).copy() for kind in ("scale", "offset")
        )
        parent_bits = bits if part == "policy" else self.manifest["parent_bits"]
        codes = _codes(read, name, tuple(node.attrs["shape"]), parent_bits, bits)
        return Layer(bits=bits, codes=codes, scale=scale, offset=offset, gain=gain, bias=bias)

    def lstm(self, part: str, node: Node) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``weight_ih (4H, D), weight_hh (4H, H), bias (4H,)`` of an lstm node, float32; gates i, f, g, o."""
        if node.op != "lstm":
            raise ValueError(f"node {node.name!r} ({node.op}) is not an lstm")
        read, name = self._part(part), node.attrs["layer"]
        return read.int16(f"{name}.weight_ih"), read.int16(f"{name}.weight_hh"), read(f"{name}.bias")

    def head(self) -> tuple[np.ndarray, np.ndarray]:
        """``weight (K, D), bias (K,)`` of the classifier, float32: logits = weight @ mean of features + bias."""
        read = self._tensors["recognition"]
        return read("head.weight"), read("head.bias")

    def file_bytes(self) -> dict[str, int]:
        """Size of each file, by name."""
        sizes = {name: entry["bytes"] for name, entry in self.manifest["files"].items()}
        return {MANIFEST: len(files.canonical(self.manifest)), **sizes}

    def _part(self, part: str) -> Tensors:
        if part not in self._tensors:
            raise ValueError(f"{self.path} has no part {part!r}; it has {', '.join(self._tensors)}")
        return self._tensors[part]


def _codes(read: Tensors, name: str, shape: tuple[int, ...], parent_bits: int, bits: int) -> np.ndarray:
    if parent_bits < FLOAT_BITS:
        codes = unpack(read(f"{name}.codes"), int(np.prod(shape)), parent_bits).reshape(shape)
        return truncate(codes, parent_bits, bits)
    arrays = [read(f"{name}.{kind}") for kind in ("weight", "divisor", "thresholds")]
    return truncate(codes_by_thresholds(*arrays), arrays[2].size.bit_length(), bits)


def write_bundle(
    path: str | os.PathLike[str],
    *,
    manifest: Mapping[str, Any],
    graphs: Mapping[str, Graph],
    tensors: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
    """Write a bundle: as a whole, or not at all.

    It is built beside ``path``, opened once, and renamed. A bundle that stands at ``path`` is replaced; anything
    else is left alone.

    Args:
        manifest: without ``format``, ``version``, ``made_by``, ``files`` and ``digest``, which are filled in.
        graphs: by part: ``recognition``, and ``policy`` if there is one.
        tensors: by part and name.

    Raises:
        BundleError: the parts do not fit each other, a tensor is not finite, something else stands at ``path``,
            or the disk refuses.
    """
    try:
        if set(graphs) != set(tensors) or not {"recognition"} <= set(graphs) <= set(PARTS):
            given = f"graphs of {sorted(graphs)} and tensors of {sorted(tensors)}"
            raise InvalidFile("", f"{given} are given, expected {PARTS}")
        with files.replacing(Path(path).resolve()) as folder:
            files.write_graphs(folder, {part: graph.to_json() for part, graph in graphs.items()})
            for part, arrays in tensors.items():
                files.write_tensors(folder, part, arrays)
            files.write_manifest(folder, manifest)
            _open(folder)
    except InvalidFile as error:
        raise BundleError(f"cannot write {Path(path) / error.file}: {error.what}") from None
    except (OSError, SafetensorError) as error:
        raise BundleError(f"cannot write {path}: {error}") from None


def _open(path: Path) -> Bundle:
    manifest = files.read_manifest(path)
    try:
        check_manifest(manifest)
    except (ValueError, RecursionError) as error:
        raise InvalidFile(MANIFEST, error) from None
    files.check_files(path, manifest["files"])
    graphs = _graphs(files.read_graphs(path), manifest)
    tensors = {part: Tensors(path / f"{part}.safetensors") for part in graphs}
    for part, graph in graphs.items():
        _check_tensors(part, graph, tensors[part].specs, manifest)
        tensors[part].check_numbers()
    rule, costs = manifest["cost"]["rule"], np.array(manifest["cost"]["values"], np.float64)
    costs.flags.writeable = False
    frame_size = min(graphs["recognition"].inputs["frames"][1:3])
    actions = ActionSpace(
        manifest["actions"], cost=rule if rule in COST_RULES else "paper", frame_size=frame_size
    )
    return Bundle(path=path, manifest=manifest, graphs=graphs, actions=actions, costs=costs, _tensors=tensors)


def _graphs(plain: Any, manifest: Mapping[str, Any]) -> dict[str, Graph]:
    parts = [part for part in PARTS if f"{part}.safetensors" in manifest["files"]]
    try:
        check_graphs(plain)
        if set(plain) != set(parts):
            raise ValueError(f"holds graphs of {sorted(plain)}, there are tensors of {sorted(parts)}")
        graphs = {part: Graph.from_json(plain[part]) for part in parts}
        check_agreement(graphs, manifest)
    except (ValueError, RecursionError) as error:
        raise InvalidFile(GRAPHS, error) from None
    return graphs


def _check_tensors(
    part: str, graph: Graph, found: Mapping[str, TensorSpec], manifest: Mapping[str, Any]
) -> None:
    """That the tensors are those which the graph asks for, in name, type and shape."""
    try:
        if part == "policy":
            wanted = policy_specs(graph, choices(graph, found, [fixed_bits(graph)])["uniform"])
        else:
            wanted = recognition_specs(
                graph,
                classes=len(manifest["classes"]),
                precisions=manifest["precisions"],
                parent_bits=manifest["parent_bits"],
                modes=modes_of(manifest),
                **choices(graph, found, manifest["precisions"]),
            )
    except ValueError as error:
        raise InvalidFile(GRAPHS, f"{part}: {error}") from None
    file = f"{part}.safetensors"
    for name in sorted(set(wanted) - set(found)):
        raise InvalidFile(file, f"lacks the tensor {name!r}")
    for name in sorted(set(found) - set(wanted)):
        raise InvalidFile(file, f"holds the tensor {name!r}, which nothing in the graph uses")
    for name, spec in wanted.items():
        if found[name] != spec:
            raise InvalidFile(
                file,
                f"{name!r} is {found[name].dtype} {found[name].shape}, expected {spec.dtype} {spec.shape}",
            )
