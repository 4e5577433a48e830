"""ActivityNet's own annotation file, read into clips."""

from __future__ import annotations

import json
from pathlib import Path

from mmvideoiq.data.annotations import BENCHMARKS, Annotations, Clip, check_count, read_classes, read_text


def read_activitynet_json(path: str | Path, classes_file: str | Path | None = None) -> Annotations:
    """Read ActivityNet's own file: ``{"database": {id: {subset, annotations: [{label}]}}, "taxonomy"}``.

    Without ``classes_file`` the classes are the leaves of the taxonomy in the order of their names, which are
    the numbers of the published text lists as well. Frames are not known. The videos of ``testing``, whose
    labels are withheld, and videos without annotations are left out, with a note.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not JSON, a key is missing, an unknown class or subset; names file, video and value.
    """
    benchmark = BENCHMARKS["activitynet"]
    try:
        content = json.loads(read_text(path, "annotations"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("database"), dict):
        raise ValueError(
            f"{path} has no 'database': it is not ActivityNet's file (activity_net.v1-3.min.json)"
        )
    if classes_file is not None:
        classes = read_classes(classes_file, benchmark)
    else:
        classes = _leaves(content.get("taxonomy"), where=str(path))
        check_count(classes, benchmark, where=f"the taxonomy of {path}")
    numbers = {name: i for i, name in enumerate(classes)}
    subsets: dict[str, list[Clip]] = {"training": [], "validation": [], "testing": []}
    bare = 0
    for name, video in content["database"].items():
        where = f"{path}, video {name}"
        try:
            subset, names = video["subset"], [segment["label"] for segment in video["annotations"]]
        except (KeyError, TypeError):
            raise ValueError(f"{where}: needs 'subset' and 'annotations' with a 'label' each") from None
        if subset not in subsets:
            raise ValueError(f"{where}: subset {subset!r} is not one of {', '.join(subsets)}")
        unknown = next((label for label in names if label not in numbers), None)
        if unknown is not None:
            raise ValueError(f"{where}: {unknown!r} is not one of the {len(classes)} classes")
        if subset != "testing" and not names:
            bare += 1
        else:
            labels = tuple(dict.fromkeys(numbers[label] for label in names))
            subsets[subset].append(Clip(name, labels, None, where))
    splits = dict(train=subsets["training"], val=subsets["validation"])
    if not any(splits.values()):
        raise ValueError(f"{path} has no annotated video of training or validation")
    found = Annotations(classes, {split: clips for split, clips in splits.items() if clips})
    if subsets["testing"]:
        found.notes.append(
            f"{len(subsets['testing']):,} videos of testing have no published labels: left out"
        )
    if bare:
        found.notes.append(f"{bare:,} videos of training and validation have no annotations: left out")
    return found


def _leaves(taxonomy: object, *, where: str) -> list[str]:
    if not isinstance(taxonomy, list) or not taxonomy:
        raise ValueError(f"{where} has no 'taxonomy' to take the classes from; name a file with --classes")
    try:
        parents = {node["parentId"] for node in taxonomy}
        return sorted({node["nodeName"] for node in taxonomy if node["nodeId"] not in parents})
    except (KeyError, TypeError):
        raise ValueError(f"{where}: each entry of 'taxonomy' needs nodeId, nodeName and parentId") from None
