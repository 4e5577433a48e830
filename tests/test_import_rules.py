"""Which room may import what (the table below), and that importing the package is light."""

import ast
import subprocess
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HOST = frozenset({"mmengine", "mmcv", "mmaction", "torch", "numpy"})
VIDEO = frozenset({"av", "cv2", "decord"})
ANY = frozenset({"*"})


@dataclass(frozen=True)
class Rule:
    """What a room may import: rooms of the package, packages, and packages only inside functions."""

    rooms: frozenset[str] = frozenset()
    packages: frozenset[str] = frozenset()
    inside_functions: frozenset[str] = field(default=frozenset())


def rule(rooms: str = "", packages: frozenset[str] = frozenset(), inside: str = "") -> Rule:
    return Rule(frozenset(rooms.split()), packages, frozenset(inside.split()))


NUMBERS = frozenset({"numpy"})
RUN = "actions checkpoint compat cost fileio hooks jobs"
RULES = {
    "__init__": rule(),
    "fileio": rule(),
    "quant": rule("quant", frozenset({"torch"})),
    "actions": rule("", NUMBERS, "torch"),
    "cost": rule("actions", NUMBERS, "torch"),
    "models": rule("quant actions cost models", HOST),
    "models/feature_cache": rule("fileio", HOST | {"safetensors"}),
    "hooks": rule("actions checkpoint cost jobs", HOST),
    "video": rule("video", NUMBERS, "av cv2 decord"),
    "video/decode_ahead": rule("jobs video", NUMBERS),
    "video/decoder_process": rule("jobs video", NUMBERS),
    "video/decoder_worker": rule("jobs video", NUMBERS, "cv2"),
    "data": rule("actions cost data fileio jobs video", HOST | VIDEO | {"rich", "pebble"}),
    "recipes": rule(f"{RUN} evaluation recipes", HOST | {"rich", "filelock"}),
    "recipes/checks": rule(f"{RUN} deploy recipes", HOST),
    "recipes/config": rule("recipes", HOST),
    "recipes/placeholders": rule(),
    "recipes/export_stage": rule("deploy recipes", HOST, "*"),
    "recipes/evaluation": rule(f"{RUN} deploy evaluation recipes", HOST | {"rich"}),
    "evaluation": rule(f"{RUN} data deploy evaluation models", HOST | {"rich", "filelock"}, "*"),
    "evaluation/metrics": rule("actions cost fileio", HOST),
    "latency": rule("compat deploy jobs latency video", HOST | {"rich"}),
    "latency/table": rule("deploy fileio latency", HOST),
    "latency/contenders": rule(
        "compat deploy latency video", NUMBERS, "torch mmaction mmengine openvino onnxruntime"
    ),
    "jobs": rule("compat fileio jobs", frozenset({"mmengine", "rich", "filelock"}), "torch"),
    "jobs/errors": rule("jobs"),
    "jobs/explained": rule(),
    "jobs/arguments": rule("jobs", frozenset(), "argcomplete"),
    "jobs/environment": rule(),
    "jobs/signals": rule(),
    "jobs/launch": rule("jobs", frozenset(), "torch"),
    "checkpoint": rule("checkpoint", frozenset({"torch"})),
    "compat": rule("compat", HOST),
    "cli": rule("compat hooks jobs", HOST),
    "deploy": rule("actions deploy video", NUMBERS | {"safetensors", "jsonschema"}),
    "deploy/engines/factory": rule("deploy jobs", NUMBERS),
    "deploy/engines/openvino_engine": rule("deploy", NUMBERS, "openvino"),
    "deploy/engines/openvino_layers": rule("deploy", NUMBERS, "openvino"),
    "deploy/engines/openvino_model": rule("deploy", NUMBERS, "openvino"),
    "deploy/engines/onnxruntime_engine": rule("deploy", NUMBERS, "onnx onnxruntime"),
    "deploy/engines/onnx_model": rule("deploy", NUMBERS, "onnx"),
    "deploy/export": rule("*", ANY),
    "visualization": rule(
        "actions data evaluation fileio video visualization", NUMBERS | {"matplotlib", "PIL", "rich"}
    ),
    "visualization/answers_report": rule("visualization", NUMBERS),
    "visualization/clips_report": rule("visualization", NUMBERS),
    "visualization/environment": rule("deploy jobs visualization"),
    "visualization/filmstrips": rule("visualization", NUMBERS, "cv2"),
    "visualization/page": rule("fileio"),
    "visualization/tables": rule("actions fileio", frozenset({"rich"})),
    "visualization/policy_view": rule("actions evaluation visualization", HOST),
    "benchmark": rule("*", ANY),
    "zoo": rule("zoo compat fileio jobs", frozenset({"rich", "yaml", "filelock"}), "torch mmaction mmengine"),
    "zoo/host": rule("zoo", HOST),
    "plugin": rule("*", ANY),
    "service": rule("*", ANY),
    "__main__": rule("jobs service"),
}
TOP_LEVEL = ("__init__", "__main__", "actions", "cli", "cost", "fileio", "hooks", "plugin")
EXPORTERS = ("evaluation", "latency", "recipes")  # rooms beside deploy/export that may import it
NOBODY_IMPORTS = ("plugin", "tools")
FRONT = ("__main__", "service")  # only these import the service


def room_of(path: Path) -> str:
    """The innermost ruled room of a file given below the package: ``quant`` for ``quant/layers.py``."""
    inner = path.with_suffix("")
    return next(
        (room.as_posix() for room in (inner, *inner.parents) if room.as_posix() in RULES), inner.parts[0]
    )


def imports(tree: ast.Module, module: str) -> Iterator[tuple[str, bool, int]]:
    """Each imported module with its full name, whether a function holds the import, and its line.

    ``from mmvideoiq import plugin`` counts as ``mmvideoiq.plugin``; what stands under ``if TYPE_CHECKING``
    does not run and is left out. ``module`` is the importing module's name, for relative imports.
    """

    def visit(node: ast.AST, inside: bool) -> Iterator[tuple[str, bool, int]]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            yield from ((alias.name, inside, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(module.split(".")[: -node.level] + ([base] if base else []))
            if base == "mmvideoiq":
                yield from ((f"{base}.{alias.name}", inside, node.lineno) for alias in node.names)
            else:
                yield base, inside, node.lineno
        inside = inside or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside)

    yield from visit(tree, False)


def violations(path: Path, source: str) -> list[str]:
    """What a file of the package imports against the table; ``path`` is given below the package."""
    room = room_of(path)
    if room not in RULES:
        return [f"{path}: no rule for the room {room!r}"]
    allowed, found = RULES[room], []
    module = ".".join(("mmvideoiq", *path.with_suffix("").parts))
    for name, inside, line in imports(ast.parse(source), module):
        parts = name.split(".")
        if parts[0] in sys.stdlib_module_names or name in ("mmvideoiq", "mmvideoiq.__version__"):
            continue
        if parts[0] == "mmvideoiq":
            target = parts[1]
            fine = target not in NOBODY_IMPORTS and (target in allowed.rooms or "*" in allowed.rooms)
            fine = fine and (target != "service" or path.with_suffix("").parts[0] in FRONT)
            if parts[1:3] == ["deploy", "export"]:
                fine = fine and (path.parts[0] in EXPORTERS or "*" in allowed.rooms)
        elif parts[0] == "tools":
            fine = False
        else:
            packages = allowed.packages | (allowed.inside_functions if inside else frozenset())
            fine = parts[0] in packages or "*" in packages
        if not fine:
            found.append(f"{path}:{line}: {room} may not import {name}{'' if inside else ' at module level'}")
    return found


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", files("mmvideoiq"), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_rooms_import_only_what_they_may(path):
    assert violations(path.relative_to(ROOT / "mmvideoiq"), path.read_text()) == []


@pytest.mark.parametrize("path", files("tools"), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_tools_import_neither_the_plugin_nor_each_other(path):
    names = {name for name, _, _ in imports(ast.parse(path.read_text()), path.stem)}
    siblings = {other.stem for other in files("tools")}
    tops = {name.split(".")[0] for name in names}
    assert not tops & (siblings | {"tools"}) and "mmvideoiq.plugin" not in names


@pytest.mark.parametrize(
    ("path", "source", "forbidden"),
    [
        ("quant/layers.py", "import mmengine", "mmengine"),
        ("quant/layers.py", "import numpy as np", "numpy"),
        ("quant/layers.py", "from ..models import losses", "mmvideoiq.models"),
        ("quant/layers.py", "from . import functional\nfrom .. import cost", "mmvideoiq.cost"),
        ("actions.py", "import torch", "torch at module level"),
        ("cost.py", "class A:\n    import torch", "torch at module level"),
        ("models/policy.py", "from mmvideoiq.hooks import GumbelTemperatureHook", "mmvideoiq.hooks"),
        ("models/policy.py", "def f():\n    import scipy", "scipy"),
        ("hooks.py", "from mmvideoiq import models", "mmvideoiq.models"),
        ("evaluation/metrics.py", "from mmvideoiq.models.losses import x", "mmvideoiq.models.losses"),
        ("checkpoint/files.py", "import mmengine", "mmengine"),
        ("visualization/tables.py", "import mmvideoiq.plugin", "mmvideoiq.plugin"),
        ("plugin.py", "from tools import train", "tools"),
        ("deploy/session.py", "import torch", "torch"),
        ("deploy/session.py", "from mmvideoiq.deploy.export import x", "mmvideoiq.deploy.export"),
        ("deploy/session.py", "from mmvideoiq.deploy.export.trace import x", "mmvideoiq.deploy.export"),
        ("deploy/engines/factory.py", "import onnxruntime", "onnxruntime at module level"),
        ("deploy/engines/openvino_engine.py", "import openvino", "openvino at module level"),
        ("recipes/plan.py", "from mmvideoiq.models import VideoIQRecognizer", "mmvideoiq.models"),
        ("__init__.py", "import torch", "torch"),
        ("utils/helper.py", "import os", "no rule"),
    ],
)
def test_the_checker_finds(path, source, forbidden):
    found = violations(Path(path), source)
    assert len(found) == 1 and forbidden in found[0], found


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "quant/layers.py",
            "import math\nfrom torch import nn\nfrom .functional import f\nfrom mmvideoiq.quant import g",
        ),
        ("cost.py", "import numpy\nfrom mmvideoiq.actions import Action\ndef f():\n    import torch"),
        ("cost.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
        ("models/policy.py", "from mmaction.registry import MODELS\nfrom mmvideoiq.quant.layers import x"),
        ("deploy/engines/onnxruntime_engine.py", "def f():\n    import onnxruntime"),
        ("deploy/export/trace.py", "import torch\nfrom mmvideoiq.models import x"),
        ("visualization/figures.py", "import matplotlib\nimport mmvideoiq"),
    ],
)
def test_the_checker_leaves(path, source):
    assert violations(Path(path), source) == []


def test_the_package_s_top_level_stays_short():
    names = {path.stem for path in (ROOT / "mmvideoiq").glob("*.py")}
    assert names <= set(TOP_LEVEL)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported_modules(tree: ast.Module, module: str, known: Collection[str]) -> set[str]:
    """Which of the ``known`` modules ``module`` imports, members of packages being modules where they are."""
    found = set()
    members = {
        (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for name, _, _ in imports(tree, module):
        inner = {f"{name}.{member}" for base, member in members if base == name} & set(known)
        found |= inner or {name}
    return found & set(known) - {module}


def test_no_import_circle():
    known = {module_name(path): ast.parse(path.read_text()) for path in files("mmvideoiq")}
    graph = {name: imported_modules(tree, name, known) for name, tree in known.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import circle: {' -> '.join(error.args[1])}")


def test_importing_the_package_is_light():
    code = "import sys, mmvideoiq; print(mmvideoiq.__version__, *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    heavy = {"torch", "numpy", "mmengine", "mmcv", "mmaction"} & set(done.stdout.split())
    assert not heavy
