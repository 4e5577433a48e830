"""What a session needs, and that threads take turns."""

import os
import subprocess
import sys
import threading
from collections.abc import Mapping

import mmaction.models  # noqa: F401
import numpy as np
import pytest

import mmvideoiq.models  # noqa: F401
from mmvideoiq.deploy.bundle.bundle import Bundle, write_bundle
from mmvideoiq.deploy.engines.base import Runner
from mmvideoiq.deploy.engines.factory import open_engine
from mmvideoiq.deploy.session import Result, VideoSession
from tests.deploy.toy_bundle import toy_parts

pytest.importorskip("openvino")
from tests.deploy.session.toys import CountingEngine


def test_it_needs_neither_torch_nor_the_host_nor_an_engine_to_be_imported():
    code = """
import sys
class Blocker:
    names = {"torch", "mmengine", "mmcv", "mmaction", "openvino", "onnx", "onnxruntime", "av", "decord", "cv2", "rich"}
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocker())
import mmvideoiq.deploy.session
assert not Blocker.names & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.getcwd()})


def test_a_session_is_for_one_thread_at_a_time(tmp_path):
    write_bundle(tmp_path / "bundle", **toy_parts(size=32))
    entered, leave = threading.Event(), threading.Event()

    class WaitingEngine(CountingEngine):
        def load(self, bundle: Bundle, part: str, bits: int) -> Runner:
            runner = super().load(bundle, part, bits)

            def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
                entered.set()
                assert leave.wait(30)
                return runner(inputs)

            return run

    engine = WaitingEngine(open_engine("openvino", threads=1))
    session = VideoSession(Bundle.open(tmp_path / "bundle"), engine)
    frames = np.zeros((2, 32, 32, 3), np.uint8)
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(session.run(frames)))
    thread.start()
    assert entered.wait(30)
    try:
        for call in (
            lambda: session.run(frames),
            lambda: session.choose(frames),
            lambda: session.push(frames[0]),
            lambda: session.run_video("a.mp4"),
            session.result,
            session.reset,
            session.measure_latency,
        ):
            with pytest.raises(RuntimeError, match="another thread is using this session"):
                call()
    finally:
        leave.set()
        thread.join()
    np.testing.assert_array_equal(
        session.run(frames).logits, results[0].logits
    )  # one after the other is fine
