"""What the manifest and the graphs of a bundle of version 1 may say: JSON schemas, and what these cannot express."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import jsonschema

from mmvideoiq.actions import ActionSpace, resized_shape
from mmvideoiq.deploy.bundle.graph import Graph
from mmvideoiq.deploy.bundle.operations import (
    AMOUNT,
    ATTRIBUTE_SCHEMAS,
    CODE_BITS,
    COUNT,
    NUMBER,
    POSITIVE,
    TEXT,
    list_of,
    object_of,
)
from mmvideoiq.deploy.bundle.shapes import graph_shapes
from mmvideoiq.deploy.bundle.tensors import FLOAT_BITS, PARTS, channels
from mmvideoiq.video.av_reader import SAMPLING

FORMAT = "mmvideoiq-bundle"
FORMAT_VERSION = 1
GRAPHS = "graphs.json"

MAX_SIDE = 2**14  # of a video's frame
SIDE = {**COUNT, "maximum": MAX_SIDE}
MAX_CLIP_BYTES = 2**31  # of the frames of one clip
BITS = {"type": "integer", "enum": [FLOAT_BITS, *CODE_BITS]}
SHA256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "type": [schema["type"], "null"]}


BY_NAME = {"type": "object", "additionalProperties": AMOUNT}
ACTION = {
    **object_of(bits=BITS, size=SIDE, skip=COUNT, optional=("bits", "size", "skip")),
    "minProperties": 1,
    "dependentRequired": {"size": ["bits"]},
}
FILE = object_of(bytes={"type": "integer", "minimum": 0}, sha256=SHA256)

MANIFEST_SCHEMA: dict[str, Any] = object_of(
    format={"const": FORMAT},
    version={"const": FORMAT_VERSION},
    made_by=TEXT,
    classes=list_of(TEXT, 1),
    actions=list_of(ACTION, 1),
    cost=object_of(rule=TEXT, values=list_of(AMOUNT, 1)),
    all_skip={"enum": ["likeliest", "zero"]},
    precisions=list_of(BITS, 1, 1 + len(CODE_BITS)),
    parent_bits=BITS,
    preprocessing=object_of(
        frames=COUNT,
        clip_len=COUNT,
        short_side=_or_null(SIDE),
        crop=_or_null(SIDE),
        mean=list_of(NUMBER, 3, 3),
        std=list_of(POSITIVE, 3, 3),
        sampling={"enum": list(SAMPLING)},
        tolerance_s=AMOUNT,
        optional=("sampling", "tolerance_s"),  # absent: exact
    ),
    gflops=BY_NAME,
    bitops=BY_NAME,
    latency_ms=_or_null(
        object_of(
            engine=TEXT,
            threads=COUNT,
            float_precision={"enum": ["f32", "bf16"]},
            cpu=TEXT,
            actions=BY_NAME,
            policy=AMOUNT,
            optional=("policy", "float_precision"),  # absent: f32
        )
    ),
    budget=_or_null(
        list_of(
            object_of(
                multiplier=NUMBER,
                cost=AMOUNT,
                accuracy={"type": ["number", "null"]},
                usage=list_of(AMOUNT, 1),
            ),
            1,
        )
    ),
    files={
        **object_of(**{GRAPHS: FILE, **{f"{part}.safetensors": FILE for part in PARTS}}),
        "required": [GRAPHS, "recognition.safetensors"],
    },
    digest=SHA256,
)

_GRAPH = object_of(
    inputs={
        "type": "object",
        "required": ["frames"],
        "additionalProperties": list_of({"type": "integer"}, 2, 4),
    },
    nodes=list_of(
        object_of(
            op={"enum": sorted(ATTRIBUTE_SCHEMAS)},
            name=TEXT,
            inputs=list_of(TEXT, 1),
            attrs={"type": "object"},
        ),
        1,
    ),
    outputs=list_of(TEXT, 1),
)
GRAPHS_SCHEMA: dict[str, Any] = object_of(recognition=_GRAPH, policy=_GRAPH, optional=("policy",))

_Strict = jsonschema.validators.extend(  # 1.0 is not an integer here
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: type(value) is int
    ),
)
_MANIFEST = _Strict(MANIFEST_SCHEMA)
_GRAPHS = _Strict(GRAPHS_SCHEMA)
_ATTRIBUTES = {op: _Strict(schema) for op, schema in ATTRIBUTE_SCHEMAS.items()}


def check_manifest(data: Any) -> None:
    """ValueError with the path of the key where ``data`` is not a manifest, or contradicts itself."""
    _check(_MANIFEST, data)
    precisions, parent_bits = data["precisions"], data["parent_bits"]
    if precisions != sorted(set(precisions), reverse=True):
        raise ValueError(f"$.precisions: {precisions} must fall")
    if parent_bits < precisions[0]:
        raise ValueError(f"$.parent_bits: {parent_bits} is below the highest of precisions {precisions}")
    space = _action_space(data)
    foreign = sorted(set(space.precisions) - set(precisions))
    if foreign:
        raise ValueError(f"$.actions: {foreign} are not among precisions {precisions}")
    budget = data["budget"] or []
    multipliers = [row["multiplier"] for row in budget]
    if multipliers != sorted(set(multipliers)):
        raise ValueError(f"$.budget: multipliers {multipliers} must rise")
    for path, values in [
        ("$.cost.values", data["cost"]["values"]),
        *((f"$.budget[{i}].usage", row["usage"]) for i, row in enumerate(budget)),
    ]:
        if len(values) != len(space):
            raise ValueError(f"{path}: {len(values)} figures for {len(space)} actions")
    latency = data["latency_ms"] or {"actions": None}
    for path, table in [
        ("$.gflops", data["gflops"]),
        ("$.bitops", data["bitops"]),
        ("$.latency_ms.actions", latency["actions"]),
    ]:
        if table is not None:
            _check_names(path, table, space)
    crop, short_side = data["preprocessing"]["crop"], data["preprocessing"]["short_side"]
    if crop and short_side and crop > short_side:
        raise ValueError(f"$.preprocessing.crop: {crop} is larger than short_side {short_side}")


def check_graphs(data: Any) -> None:
    """ValueError with the path of the key where ``data`` does not hold graphs."""
    _check(_GRAPHS, data)
    for part, graph in data.items():
        for i, node in enumerate(graph["nodes"]):
            path = f"$.{part}.nodes[{i}].attrs"
            _check(_ATTRIBUTES[node["op"]], node["attrs"], path)
            for bits, (_, low, high, _) in node["attrs"].get("grids", {}).items():
                if low not in (0, -high) or high - low >= 2 ** int(bits):
                    limit = f"from 0 or -high, in all 2**{bits} or fewer"
                    raise ValueError(f"{path}.grids[{bits!r}]: codes are {low}..{high}, expected {limit}")


def check_agreement(graphs: Mapping[str, Graph], manifest: Mapping[str, Any]) -> None:
    """ValueError where graphs do not read the frames, cannot run at a size, or give another number of actions."""
    crop = manifest["preprocessing"]["crop"]
    sizes = {action.get("size") for action in manifest["actions"]} - {None}
    for part, graph in graphs.items():
        frames = graph.inputs["frames"]
        if len(frames) != 4 or (crop and frames[1:3] != (crop, crop)):
            side = crop or "side"
            raise ValueError(
                f"$.{part}.inputs.frames: {list(frames)}, expected [-1, {side}, {side}, channels]"
            )
        clip = manifest["preprocessing"]["frames"] * manifest["preprocessing"]["clip_len"] * prod(frames[1:])
        if clip > MAX_CLIP_BYTES:
            raise ValueError(
                f"$.{part}.inputs.frames: a clip would be {clip} bytes, expected at most {MAX_CLIP_BYTES}"
            )
        try:
            channels(graph)
            rank = len(graph_shapes(graph)[graph.outputs[0]])
            for size in sizes if part == "recognition" else ():
                graph_shapes(graph.resized(resized_shape(*frames[1:3], size)))
        except ValueError as error:
            raise ValueError(f"$.{part}: {error}") from None
        if rank != 2:
            raise ValueError(
                f"$.{part}.outputs: node {graph.outputs[0]!r} gives {rank} dimensions, expected 2"
            )
    if "policy" in graphs:
        found = channels(graphs["policy"])[graphs["policy"].outputs[0]]
        if found != len(manifest["actions"]):
            raise ValueError(f"$.policy.outputs: {found} logits for {len(manifest['actions'])} actions")


def _check(validator: Any, data: Any, start: str = "$") -> None:
    for error in validator.iter_errors(data):  # the first one serves: of a bad file there may be very many
        raise ValueError(f"{start}{error.json_path[1:]}: {error.message}")


def _action_space(data: Mapping[str, Any]) -> ActionSpace:
    try:
        return ActionSpace(data["actions"], frame_size=MAX_SIDE)
    except ValueError as error:
        raise ValueError(f"$.actions: {error}") from None


def _check_names(path: str, table: Mapping[str, float], space: ActionSpace) -> None:
    foreign = sorted(set(table) - {*space.names, "policy"})
    if foreign:
        raise ValueError(f"{path}: {foreign} are no actions; there are {', '.join(space.names)}")
    missing = [a.name for a in space if not a.is_skip and a.name not in table]
    if missing:
        raise ValueError(f"{path}: no figure for the actions {', '.join(missing)}")
