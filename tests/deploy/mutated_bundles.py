"""Open and run mutated copies of a bundle: ``python -m tests.deploy.mutated_bundles BUNDLE COUNT SEED ENGINE FOLDER``.

Each copy has one value of its manifest, graphs or tensors changed, and checksums that fit. It must give finite results
or raise BundleError or EngineError. Prints a JSON object: how many ended in which way, and a line for each other end.
"""

import json
import random
import resource
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from mmvideoiq.deploy.bundle.bundle import Bundle, BundleError
from mmvideoiq.deploy.engines.base import Engine, EngineError
from mmvideoiq.deploy.engines.factory import open_engine
from mmvideoiq.deploy.session import VideoSession
from tests.deploy.signed_bundle import canonical, sign

MEMORY = 6 * 2**30
SECONDS = 30
ODD = [
    -1,
    0,
    1,
    2,
    3,
    7,
    255,
    10**7,
    2**31 - 1,
    2**40,
    10**400,
    1e-300,
    1e37,
    -1e37,
    0.5,
    None,
    "x",
    [],
    True,
]
ODD_FLOATS = [np.nan, np.inf, 3e38, -3e38, 0, 1e-45]


def leaves(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to what is neither an object nor a list."""
    if not isinstance(tree, (dict, list)):
        yield path
        return
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield from leaves(value, (*path, key))


def mutate_json(rng: random.Random, file: Path) -> str:
    tree = json.loads(file.read_text())
    path = rng.choice([p for p in leaves(tree) if p[0] not in ("files", "digest", "classes")])
    parent = tree
    for key in path[:-1]:
        parent = parent[key]
    old = parent[path[-1]]
    near = [old + 1, old * 2] if type(old) in (int, float) else []
    names = ["frames", "stem", "h", "c"] if path[-2:-1] == ("inputs",) else []
    parent[path[-1]] = rng.choice(names or [*ODD, *near])
    file.write_bytes(canonical(tree))
    return f"{file.name} {path} {parent[path[-1]]!r:.40}"


def mutate_tensor(rng: random.Random, file: Path) -> str:
    tensors = load_file(file)
    name = rng.choice(sorted(tensors))
    array = tensors[name] = tensors[name].copy()
    place = rng.randrange(array.size)
    if array.dtype.kind == "f":
        array.flat[place] = rng.choice(ODD_FLOATS)
    else:
        array.flat[place] ^= 0x7F
    save_file(tensors, file)
    return f"{file.name} {name}[{place}] {array.flat[place]!r}"


def outcome(path: Path, engine: Engine) -> str:
    try:
        session = VideoSession(Bundle.open(path), engine)
        shift = [node for node in session.bundle.graphs["recognition"] if node.op == "shift"]
        count = shift[0].attrs["frames"] if shift else 2
        frames = np.random.default_rng(0).integers(0, 256, (count, *session.frame_shape), dtype=np.uint8)
        result = session.run(frames)
    except (BundleError, EngineError) as error:
        return type(error).__name__ if "\n" not in str(error) else f"more than one line: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "ran" if np.isfinite(result.scores).all() and np.isfinite(result.cost) else "not finite"


def main(bundle: str, count: str, seed: str, engine_name: str, folder: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    rng, engine, ends, others = random.Random(int(seed)), open_engine(engine_name, threads=1), Counter(), []
    path = Path(folder) / "bundle"
    for _ in range(int(count)):
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(bundle, path)
        part = rng.choice(["graphs.json", "graphs.json", "graphs.json", "manifest.json", "tensors"])
        if part == "tensors":
            what = mutate_tensor(rng, rng.choice(sorted(path.glob("*.safetensors"))))
        else:
            what = mutate_json(rng, path / part)
        sign(path)
        print(what, file=sys.stderr, flush=True)  # the last line names the one that ended the process
        signal.alarm(SECONDS)
        end = outcome(path, engine)
        signal.alarm(0)
        if end in ("ran", "BundleError", "EngineError"):
            ends[end] += 1
        else:
            others.append(f"{what}: {end}")
    print(json.dumps(dict(ends=ends, others=others)))


if __name__ == "__main__":
    main(*sys.argv[1:])
