"""Lists, configs and checkpoints, for the commands of testing, conversion, export and ``bulk``."""

from __future__ import annotations

import ast
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmvideoiq.data.synthetic import make_synthetic
from tests.data.published import CLIPS, class_file
from tests.trust.isolated import ROOT
from tests.trust.kinds import Kind
from tests.trust.mutations import change_bytes, change_text

BUNDLE = ROOT / "zoo/demo/demo_videoiq_bundle"
CHECKPOINT = ROOT / "zoo/demo/demo_videoiq.pth"
CONFIG = "configs/videoiq/demo_videoiq.py"
#: What it is made of.
PARTS = (
    *("videoiq/demo_videoiq.py", "_base_/datasets/synthetic.py", "_base_/models/slim_resnet_videoiq.py"),
    *("_base_/models/slim_resnet_any_precision.py", "_base_/models/slim_resnet_float.py"),
    *("_base_/schedules/adam_demo_30e.py", "_base_/schedules/adam_demo.py", "_base_/default_runtime.py"),
)
SETTINGS = (
    "-1",
    "0",
    "1",
    "3",
    "1000",
    "0.5",
    "float('nan')",
    "None",
    "True",
    "''",
    "'x'",
    "[]",
    "{}",
    "[[0]]",
)


def write_clips(folder: Path) -> None:
    make_synthetic(folder / "data", train=1, val=1, test=4)


def testing_of(
    config: Path | str, checkpoint: Path | str, originals: Path, folder: Path, *settings: str
) -> list[str]:
    loader = "test_dataloader.dataset"
    options = [f"{loader}.data_root={originals / 'data'}", f"{loader}.check_videos=False", *settings]
    work = ["--work-dir", str(folder / "work")]
    return ["tools/test.py", str(config), str(checkpoint), *work, "--cfg-options", *options]


# --- lists ----------------------------------------------------------------------------------------------------------


def write_lists(folder: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    write_clips(folder)
    paths = [line.split()[0] for line in (folder / "data/test.txt").read_text().splitlines()]
    videos = [str(folder / "data/videos" / path) for path in paths]
    (folder / "list.txt").write_text(
        "# videos\n" + "".join(f"{video} {i}\n" for i, video in enumerate(videos))
    )
    rows = "".join(f'{i},"{video}",x\n' for i, video in enumerate(videos))
    (folder / "list.csv").write_text(f"number,path,note\n{rows}")
    parquet.write_table(pa.table(dict(path=videos, number=range(len(videos)))), folder / "list.parquet")
    separators = dict(activitynet=",", fcvid=" ", mini_sports1m=";", mini_kinetics=" ")
    for name, separator in separators.items():
        class_file(folder, name)
        lines = [separator.join(map(str, (path, 6, *labels))) for path, labels in CLIPS[name]]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")


def change_list(originals: Path, folder: Path, rng: random.Random) -> tuple[str, list[str]]:
    """For ``bulk``, for a test, or as benchmarks are published."""
    way = rng.choice(("txt", "csv", "parquet", "test", "test", *CLIPS))
    if way in ("txt", "csv", "parquet"):
        path, data = folder / f"list.{way}", (originals / f"list.{way}").read_bytes()
        what, data = change_bytes(data, rng) if way == "parquet" else change_text(data.decode(), rng)
        path.write_bytes(data)
        options = ["--out", str(folder / "out"), "--no-ray", "--threads", "1", "--decoders", "1"]
        return f"{path.name}: {what}", ["mmvideoiq", "bulk", str(BUNDLE), str(path), *options]
    if way == "test":
        what, data = change_text((originals / "data/test.txt").read_text(), rng)
        (folder / "test.txt").write_bytes(data)
        setting = f"test_dataloader.dataset.ann_file={folder / 'test.txt'}"
        return f"test.txt: {what}", testing_of(CONFIG, CHECKPOINT, originals, folder, setting)
    changed = rng.choice((f"{way}.txt", f"{way}.txt", f"{way}_classes.txt"))
    for name in (f"{way}.txt", f"{way}_classes.txt"):
        shutil.copy(originals / name, folder)
    what, data = change_text((folder / changed).read_text(), rng)
    (folder / changed).write_bytes(data)
    given = ["--train", str(folder / f"{way}.txt"), "--classes", str(folder / f"{way}_classes.txt")]
    return f"{changed}: {what}", [f"tools/data/{way}/convert.py", str(folder / "lists"), *given]


# --- configs --------------------------------------------------------------------------------------------------------


def change_setting(text: str, rng: random.Random) -> tuple[str, bytes]:
    """A value of a config is another one, or a setting is missing."""
    tree = ast.parse(text)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.keywords]
    values = [keyword for call in calls for keyword in call.keywords]
    values += [node for node in tree.body if isinstance(node, ast.Assign)]
    if not values:
        return change_text(text, rng)
    chosen = rng.choice(values)
    name = chosen.arg if isinstance(chosen, ast.keyword) else ast.unparse(chosen.targets[0])
    if isinstance(chosen, ast.keyword) and rng.random() < 0.25:
        next(call for call in calls if chosen in call.keywords).keywords.remove(chosen)
        what = f"{name} is missing"
    else:
        setting = rng.choice(SETTINGS)
        chosen.value = ast.parse(setting, mode="eval").body
        what = f"{name}={setting}"
    return what, f"{ast.unparse(tree)}\n".encode()


def change_config(originals: Path, folder: Path, rng: random.Random) -> tuple[str, list[str]]:
    shutil.copytree(ROOT / "configs", folder / "configs", ignore=shutil.ignore_patterns("*.md"))
    path = folder / "configs" / rng.choice(PARTS)
    text = path.read_text()
    what, data = change_setting(text, rng) if rng.random() < 0.6 else change_text(text, rng)
    path.write_bytes(data)
    return f"{path.name}: {what}", testing_of(folder / CONFIG, CHECKPOINT, originals, folder)


# --- checkpoints ----------------------------------------------------------------------------------------------------


def write_checkpoints(folder: Path) -> None:
    import torch
    from mmaction.models.backbones import MobileNetV2

    write_clips(folder)
    shutil.copy(CHECKPOINT, folder / "demo.pth")
    torch.manual_seed(0)
    state = {f"backbone.{name}": value for name, value in MobileNetV2(pretrained=None).state_dict().items()}
    torch.save(dict(state_dict=state, meta={}), folder / "float.pth")


def odd_tensors(value: Any) -> list[Callable[[], Any]]:
    import torch

    floats = value.float()
    return [
        lambda: torch.full_like(floats, float("nan")),
        lambda: floats * float("inf"),
        lambda: floats * 1e30,
        lambda: floats.half(),
        lambda: floats.to(torch.complex64),
        lambda: floats.to(torch.int8),
        lambda: floats[None],
        lambda: floats.flatten()[:-1],
        lambda: torch.empty(0),
        lambda: torch.zeros(1).expand(10**12),
        lambda: floats.to_sparse(),
        lambda: floats.numpy(),
        lambda: torch.nn.Parameter(floats),
        lambda: "weight",
        lambda: None,
    ]


def change_content(path: Path, rng: random.Random) -> str:
    """A tensor, a name, or what stands around them."""
    import torch

    content = torch.load(path, weights_only=True)
    state = content["state_dict"]
    name = rng.choice(sorted(state))
    whole: dict[str, Callable[[], Any]] = {
        "a state dict alone": lambda: dict(state),
        "a list": lambda: list(state.values()),
        "a tensor": lambda: state[name],
        "nothing": lambda: {},
        "no weights": lambda: dict(content, state_dict={}),
        "meta is a list": lambda: dict(content, meta=[1]),
        "meta is missing": lambda: dict(state_dict=state),
        "a path": lambda: dict(content, place=Path("x")),
        "numbers for names": lambda: dict(content, state_dict=dict(enumerate(state.values()))),
        "nested": lambda: dict(state_dict=content),
    }
    way = rng.random()
    if way < 0.35:
        what = rng.choice(sorted(whole))
        content = whole[what]()
    elif way < 0.5:
        del state[name]
        what = f"{name} is missing"
    elif way < 0.65:
        state[f"{name}{rng.choice(('x', '.x', chr(0), chr(233)))}"] = state.pop(name)
        what = f"{name} has another name"
    else:
        number = rng.randrange(15)
        state[name] = odd_tensors(state[name])[number]()
        what = f"{name} is odd, {number}"
    torch.save(content, path)
    return what


def change_checkpoint(originals: Path, folder: Path, rng: random.Random) -> tuple[str, list[str]]:
    way = rng.choice(("export", "test", "publish", "convert"))
    path = folder / ("float.pth" if way == "convert" else "demo.pth")
    shutil.copy(originals / path.name, path)
    if rng.random() < 0.4:
        what, data = change_bytes(path.read_bytes(), rng)
        path.write_bytes(data)
    else:
        what = change_content(path, rng)
    out = str(folder / "out")
    argv = {
        "export": ["mmvideoiq", "export", "videoiq/demo_videoiq", str(path), out, "--no-calibration"],
        "test": testing_of(CONFIG, path, originals, folder),
        "publish": ["tools/publish_model.py", str(path), f"{out}.pth", "--config", CONFIG],
        "convert": ["tools/convert_checkpoint.py", str(path), f"{out}.pth", "--num-classes", "3"],
    }
    return f"{path.name}: {what}", argv[way]


KINDS = {
    "lists": Kind(write_lists, change_list),
    "configs": Kind(write_clips, change_config),
    "checkpoints": Kind(write_checkpoints, change_checkpoint),
}
