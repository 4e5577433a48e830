"""The contenders of a benchmark, mmvideoiq and its peers, each in a process of its own that reads tasks line by line.

``python -m mmvideoiq.latency.contenders SPEC.json`` answers every line on standard input, the name of a task, with
one line of JSON. A process of its own gives each contender its own peak memory, and lets the caller interleave them.

A spec holds ``kind``, ``threads``, ``clip`` (.npy, uint8 (T, H, W, 3)) or ``videos`` (paths) or both, and what its
kind needs. Nothing here is imported before it is needed: the runtime is measured without torch.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from mmvideoiq.video.change import changed_frames
from mmvideoiq.video.preprocessing import Preprocessing
from mmvideoiq.video.reader import read_frames

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of MMAction2's configs
MIXED_CLIPS = 5  # over which a given usage is spread
Recognize = Callable[[np.ndarray], int]


class Contender:
    """Recognizes the spec's clip or videos; the result of a task is its answer.

    Args:
        recognize: frames uint8 (T, H, W, 3) -> label.
        read: path of a video -> frames.
        files: whose size is the model's.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        *,
        recognize: Recognize,
        read: Callable[[str], np.ndarray] | None = None,
        files: list[str],
    ) -> None:
        self.recognize = recognize
        self.preprocessing = Preprocessing(**spec["preprocessing"])
        self.read = read or (lambda path: read_frames(path, self.preprocessing))
        self.files = files
        self.videos = spec.get("videos") or []
        if spec.get("clip"):
            self.clips = [np.load(spec["clip"])]
        else:
            self.clips = [self.read(path) for path in self.videos[: spec.get("preload", 1)]]
        self.clip = self.clips[0]
        self.turns = dict(model=0, total=0)

    def model(self) -> dict[str, Any]:
        """The next clip, already decoded; after a run that is not timed, because others have used the caches since."""
        self.recognize(self.clip)
        clip = self.next("model", self.clips)
        began = time.perf_counter()
        label = self.recognize(clip)
        return dict(seconds=time.perf_counter() - began, label=label)

    def total(self) -> dict[str, Any]:
        """The next video, from its file to its label."""
        path = self.next("total", self.videos)
        began = time.perf_counter()
        label = self.recognize(self.read(path))
        return dict(seconds=time.perf_counter() - began, label=label)

    def next(self, task: str, of: Sequence[Any]) -> Any:
        """The next of them, in a circle."""
        self.turns[task] += 1
        return of[(self.turns[task] - 1) % len(of)]

    def each(self) -> dict[str, Any]:
        """Every video once: seconds without decoding, and labels."""
        seconds, labels = [], []
        for path in self.videos:
            frames = self.read(path)
            began = time.perf_counter()
            labels.append(self.recognize(frames))
            seconds.append(time.perf_counter() - began)
        return dict(seconds=seconds, labels=labels)

    def size(self) -> dict[str, Any]:
        """Bytes of the model's files, and peak memory of this process."""
        paths = [
            inner for path in map(Path, self.files) for inner in (path.iterdir() if path.is_dir() else [path])
        ]
        return dict(file_bytes=sum(path.stat().st_size for path in paths), peak_rss=peak_rss())


class Ours(Contender):
    """A bundle in a session.

    ``usage`` (a share per action) replaces what the policy would choose, after it has run, or instead of it where
    ``policy`` is false; ``budget`` sets the cost multiplier.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        from mmvideoiq.deploy.session import VideoSession

        self.session = VideoSession.open(
            spec["bundle"], engine=spec["engine"], threads=spec["threads"], budget=spec.get("budget")
        )
        self.spec = spec
        self.actions = None
        if spec.get("usage"):
            self.actions = cycle(spread(spec["usage"], MIXED_CLIPS, spec["preprocessing"]["frames"]))
        self.chosen: list[np.ndarray] = []
        self._runs: dict[str, Callable[[np.ndarray], Any]] = {}
        super().__init__(spec, recognize=self._recognize, files=[spec["bundle"]])

    def _recognize(self, frames: np.ndarray) -> int:
        if self.actions is None:
            result = self.session.run(frames)
        else:
            if self.spec.get("policy", True):
                self.session.choose(frames)
            result = self.session.run(frames, actions=next(self.actions))
        self.chosen.append(result.actions)
        return result.label

    def usage(self) -> dict[str, Any]:
        """Shares of the actions since the last time, and their mean cost."""
        shares = self.session.actions.usage(np.concatenate(self.chosen))
        self.chosen.clear()
        return dict(
            usage=dict(zip(self.session.actions.names, shares.tolist(), strict=True)),
            cost=float(shares @ self.session.bundle.costs),
        )

    def parts(self) -> dict[str, Any]:
        """The clip through the bare engine: seconds of the policy, and of all frames at each precision."""
        seconds = {name: self._time(run, self.clip) for name, run in self._bare().items()}
        return dict(frames=len(self.clip), seconds=seconds)

    def push(self) -> dict[str, Any]:
        """The clip as a stream: seconds of ``push``, then of the bare engine for the same frames one by one."""
        session, runs = self.session, self._bare()
        session.reset()
        began = time.perf_counter()
        actions = [session.push(frame) for frame in self.clip]
        pushed, bare = time.perf_counter() - began, 0.0
        for frame, action in zip(self.clip, actions, strict=True):
            bare += self._time(runs["policy"], frame[None])
            if not session.actions[action].is_skip:
                bare += self._time(runs[session.actions.names[action]], frame[None])
        return dict(pushed=pushed, bare=bare)

    def _bare(self) -> dict[str, Callable[[np.ndarray], Any]]:
        """The engine's networks by name, each taking frames."""
        if not self._runs:
            bundle, engine = self.session.bundle, self.session.engine
            policy = bundle.graphs["policy"]
            zeros = {
                name: np.zeros(shape, np.float32) for name, shape in policy.inputs.items() if name != "frames"
            }
            run_policy = engine.load(bundle, "policy", bundle.policy_bits)
            self._runs["policy"] = lambda frames: run_policy({"frames": frames, **zeros})
            for action in self.session.actions:
                if not action.is_skip:
                    run = engine.load(bundle.sized(action.size), "recognition", action.bits)
                    self._runs[action.name] = lambda frames, run=run: run({"frames": frames})
            for run in self._runs.values():
                run(self.clip), run(self.clip[:1])
        return self._runs

    @staticmethod
    def _time(run: Callable[[np.ndarray], Any], frames: np.ndarray) -> float:
        began = time.perf_counter()
        run(frames)
        return time.perf_counter() - began


class Given(Ours):
    """A bundle that does with each frame what was decided before.

    ``actions`` (clips, frames) are those of the videos; where ``policy`` is true, the policy runs all the same.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        super().__init__(spec)
        self.clips = list(zip(self.clips, np.array(spec["actions"]), strict=True))
        self.clip = self.clips[0]

    def _recognize(self, clip: tuple[np.ndarray, np.ndarray]) -> int:
        frames, actions = clip
        if self.spec["policy"]:
            self.session.choose(frames)
        return self.session.run(frames, actions=actions).label


class Gated(Ours):
    """A bundle that processes frames which have changed: ``gate`` has ``action``, ``threshold`` and ``side``."""

    def _recognize(self, frames: np.ndarray) -> int:
        gate, space = self.spec["gate"], self.session.actions
        changed = changed_frames(frames, side=gate["side"], threshold=gate["threshold"])
        actions = np.where(changed, gate["action"], space.index("skip"))
        return self.session.run(frames, actions=actions).label


def peak_rss() -> int:
    """Peak memory of this process in bytes. ``getrusage`` would include its parent, from which it was forked."""
    status = Path("/proc/self/status")
    if status.is_file():
        return (
            int(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")))
            * 1024
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def spread(shares: Sequence[float], clips: int, frames: int) -> np.ndarray:
    """Actions (clips, frames): the shares over all clips, rounded to frames, and nearly so in every clip; shuffled."""
    bounds, total = np.cumsum(shares) / np.sum(shares), clips * frames
    actions = np.searchsorted(bounds, (np.arange(total) + 0.5) / total, side="right").clip(
        max=len(shares) - 1
    )
    dealt = actions.reshape(frames, clips).T  # like cards: each clip gets every so many-th action
    return np.random.default_rng(0).permuted(dealt, axis=1)


def mmaction2(spec: Mapping[str, Any]) -> Contender:
    """MMAction2's recognizer with its own pipeline; ``compile`` puts its backbone through ``torch.compile``."""
    import torch

    from mmvideoiq import compat

    compat.apply()
    from mmaction.apis import inference_recognizer, init_recognizer
    from mmaction.structures import ActionDataSample
    from mmengine.config import Config

    torch.set_num_threads(spec["threads"])
    model = init_recognizer(Config.fromfile(spec["config"]), spec["checkpoint"], device="cpu")
    if spec["compile"]:
        model.backbone = torch.compile(model.backbone)

    @torch.inference_mode()
    def recognize(frames: np.ndarray) -> int:
        inputs = torch.from_numpy(frames).permute(0, 3, 1, 2)
        [sample] = model.test_step(dict(inputs=[inputs], data_samples=[ActionDataSample()]))
        return int(sample.pred_label)

    contender = Contender(spec, recognize=recognize, files=[spec["checkpoint"]])

    def total() -> dict[str, Any]:
        path = contender.next("total", contender.videos)
        began = time.perf_counter()
        label = int(inference_recognizer(model, path).pred_label)
        return dict(seconds=time.perf_counter() - began, label=label)

    contender.total = total  # type: ignore[method-assign]
    return contender


def onnxruntime(spec: Mapping[str, Any]) -> Contender:
    """An ONNX file from frames to probabilities."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = spec["threads"]
    session = ort.InferenceSession(spec["model"], options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return Contender(
        spec,
        recognize=lambda frames: int(session.run(None, {name: frames})[0].argmax()),
        files=[spec["model"]],
    )


def openvino(spec: Mapping[str, Any]) -> Contender:
    """An OpenVINO file from frames to probabilities; ``precision`` None leaves that of floats to OpenVINO."""
    from mmvideoiq.deploy.engines.openvino_engine import process_core

    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": spec["threads"]}
    if spec["precision"] is not None:
        config["INFERENCE_PRECISION_HINT"] = spec["precision"]
    request = process_core().compile_model(spec["model"], "CPU", config).create_infer_request()
    return Contender(
        spec,
        recognize=lambda frames: int(request.infer([frames])[0].argmax()),
        files=[spec["model"], str(Path(spec["model"]).with_suffix(".bin"))],
    )


KINDS: dict[str, Callable[[Mapping[str, Any]], Contender]] = {
    "gated": Gated,
    "given": Given,
    "mmaction2": mmaction2,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "ours": Ours,
}


def main(path: str) -> None:
    """Answer tasks until standard input ends. What libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    spec = json.loads(Path(path).read_text())
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: spec["threads"]])
    contender = KINDS[spec["kind"]](spec)
    print(json.dumps("ready"), file=answers)
    for line in sys.stdin:
        print(json.dumps(getattr(contender, line.strip())()), file=answers)


if __name__ == "__main__":
    main(sys.argv[1])
