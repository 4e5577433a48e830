"""Strip a checkpoint for the zoo: weights, classes, epoch and seed stay. Prints what goes into its metafile.

The weights are checked first: finite, and all that the model of the training's config has. MMAction2 writes that config
into its checkpoints; for others, give --config.
"""

import argparse
import ast
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmvideoiq.jobs.arguments import Parser
from mmvideoiq.jobs.errors import one_line_errors
from mmvideoiq.jobs.signals import restore_signals
from mmvideoiq.service.main import imports_of

with imports_of("train"):
    import torch
    from mmaction.registry import MODELS
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from mmengine.utils import import_modules_from_strings

    from mmvideoiq import checkpoint, cli
    from mmvideoiq.fileio import sync
    from mmvideoiq.zoo.fetch import sha256_of

KEPT = ("epoch", "iter", "seed", "dataset_meta")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("src", type=Path, help="checkpoint of a training")
    parser.add_argument("dst", type=Path, help="file to write (*.pth)")
    parser.add_argument("--config", help="config of the model; default: the one in the checkpoint")
    parser.add_argument("--no-strict", action="store_true", help="do not compare with the config's model")
    args = parser.parse_args(argv)
    if args.dst.suffix != ".pth":
        raise ValueError(f"DST {args.dst} must end in .pth")
    return args


def value_of(node: ast.expr) -> Any:
    """A config's value without running it: literals and ``dict(...)`` of them.

    Raises:
        ValueError: anything else.
    """
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "dict" and not node.args:
        return {str(keyword.arg): value_of(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.List):
        return [value_of(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(value_of(item) for item in node.elts)
    if isinstance(node, ast.Dict):
        keys = [ast.literal_eval(key) for key in node.keys if key is not None]
        return dict(zip(keys, map(value_of, node.values), strict=True))
    return ast.literal_eval(node)


def held_config(text: str) -> dict[str, Any]:
    """The settings in a checkpoint's config text; only read, for the file may come from anywhere."""
    assigned = (node for node in ast.parse(text).body if isinstance(node, ast.Assign))
    return {ast.unparse(node.targets[0]): value_of(node.value) for node in assigned}


def check(src: Path, state: dict[str, torch.Tensor], meta: dict[str, Any], config_path: str | None) -> None:
    """Compare the weights with the model of the config.

    Raises:
        ValueError: no config, or weights that do not fit its model.
    """
    if config_path is not None:
        config = cli.read_config(config_path, options=None, work_dir=None, launcher="none")
    else:
        try:
            config = Config(held_config(meta.get("cfg", "")))
        except (SyntaxError, TypeError, ValueError):
            config = Config()
    if "model" not in config:
        raise ValueError(
            f"{src} does not contain its config: give --config, or --no-strict to publish it unchecked"
        )
    named = dict(config.get("custom_imports") or {}).get("imports", [])
    import_modules_from_strings([name for name in named if name.startswith("mmvideoiq.")])
    init_default_scope(config.get("default_scope", "mmaction"))
    checkpoint.load_fitting(MODELS.build(config.model), state, source=str(src))


def publish(src: Path, dst: Path, *, config: str | None = None, strict: bool = True) -> None:
    """The same weights under the same name give the same bytes.

    Raises:
        ValueError: weights that are not finite, or with ``strict`` do not fit the config's model.
    """
    state = checkpoint.load_state(src)
    meta = torch.load(src, map_location="cpu", weights_only=True).get("meta") or {}
    checkpoint.check_finite(state, source=str(src))
    if strict:
        check(src, state, meta, config)
    content = dict(state_dict=state, meta={key: meta[key] for key in KEPT if key in meta})
    with tempfile.TemporaryDirectory(dir=dst.parent) as folder:  # torch writes the file's name into it
        torch.save(content, Path(folder, dst.name))
        sync(Path(folder, dst.name))
        os.replace(Path(folder, dst.name), dst)


def main(argv: list[str] | None = None) -> None:
    with one_line_errors():
        args = parse_args(argv)
        publish(args.src, args.dst, config=args.config, strict=not args.no_strict)
        print(f"  Weights: {args.dst}")
        print(f"  Metadata:\n    SHA256: {sha256_of(args.dst)}\n    Size: {args.dst.stat().st_size}")


if __name__ == "__main__":
    restore_signals()
    main()
