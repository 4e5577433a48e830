"""Opening engines, and the proof of which sums of products can saturate."""

import builtins
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

from mmvideoiq.deploy.engines import cpu
from mmvideoiq.deploy.engines.base import EngineError
from mmvideoiq.deploy.engines.cpu import INT16_MAX, has_bf16, has_vnni, may_saturate
from mmvideoiq.deploy.engines.factory import ENGINES, open_engine

LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_by_its_name(name):
    pytest.importorskip(name)
    engine = open_engine(name, threads=1)
    assert (engine.name, engine.threads) == (name, 1)


def test_threads_are_the_cpus_that_the_process_may_use(monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert open_engine("openvino").threads == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert open_engine("openvino").threads == 1


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("threads", [0, -2])
def test_too_few_threads(name, threads):
    with pytest.raises(EngineError, match=f"threads={threads}.*at least 1"):
        open_engine(name, threads=threads)


def test_float_precisions_that_an_engine_lacks():
    pytest.importorskip("onnxruntime")
    assert open_engine("onnxruntime", threads=1, float_precision="auto").float_precision == "f32"
    with pytest.raises(
        EngineError, match="'onnxruntime' has float32 alone; use 'auto', 'f32', or 'openvino'"
    ):
        open_engine("onnxruntime", threads=1, float_precision="bf16")
    with pytest.raises(EngineError, match="unknown float_precision 'f16'; choose one of auto, f32, bf16"):
        open_engine("openvino", float_precision="f16")


def test_an_unknown_engine():
    with pytest.raises(EngineError, match=r"unknown engine 'tensorrt'; choose one of openvino, onnxruntime"):
        open_engine("tensorrt")


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_that_is_not_installed(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EngineError, match=rf"{name}.*not installed.*pip install .*{name}") as caught:
        open_engine(name, threads=1)
    assert "\n" not in str(caught.value)


def test_no_engine_is_imported_before_it_is_opened():
    code = (
        "import sys, mmvideoiq.deploy.engines.factory, mmvideoiq.deploy.engines.openvino_engine\n"
        "assert not {'openvino', 'onnxruntime', 'onnx', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_vnni_from_the_flags_of_the_cpu(monkeypatch):
    for name in LIMITS:
        monkeypatch.delenv(name, raising=False)
    assert has_vnni(["avx512f", "avx512_vnni"]) and has_vnni({"avx2", "avx_vnni"})
    assert not has_vnni(["avx2", "avx512f", "avx512_vbmi"]) and not has_vnni([])

    listing = "processor\t: 0\nflags\t\t: fpu avx2 {}\n\nprocessor\t: 1\nflags\t\t: fpu\n"
    for flag, expected in (("avx512_vnni", True), ("fma", False)):
        monkeypatch.setattr(builtins, "open", lambda *_, flag=flag, **__: _Lines(listing.format(flag)))
        cpu._cpu_info.cache_clear()
        assert has_vnni() is expected
    monkeypatch.setattr(builtins, "open", _refuse)
    cpu._cpu_info.cache_clear()
    assert has_vnni() is False
    cpu._cpu_info.cache_clear()


@pytest.mark.parametrize(
    ("limit", "expected", "bf16"),
    [
        ("AVX2", [], False),
        ("AVX512_CORE", [], False),
        ("avx2_vnni", ["avx_vnni"], False),
        ("AVX512_CORE_VNNI", ["avx512_vnni"], False),
        ("AVX512_CORE_BF16", ["avx512_vnni"], True),
        ("AVX512_CORE_AMX", ["avx512_vnni", "avx_vnni"], True),
        ("", ["avx512_vnni", "avx_vnni"], True),
    ],
)
@pytest.mark.parametrize("name", LIMITS)
def test_what_the_environment_leaves_of_the_cpu(monkeypatch, name, limit, expected, bf16):
    for each in LIMITS:
        monkeypatch.setenv(each, limit if each == name else "")
    assert [flag for flag in ("avx512_vnni", "avx_vnni") if has_vnni(["avx2", flag])] == expected
    assert has_bf16(["avx512_bf16"]) == has_bf16(["amx_bf16"]) == bf16 and not has_bf16(["avx512_vnni"])


class _Lines:
    def __init__(self, text: str) -> None:
        self.lines = text.splitlines(keepends=True)

    def __enter__(self):
        return iter(self.lines)

    def __exit__(self, *_):
        return None


def _refuse(*_, **__):
    raise FileNotFoundError("no such file")


@pytest.mark.parametrize("high", [3, 15, 127, 254, 255])
def test_saturation_against_all_pairs(high):
    """Whichever two weights of a channel a kernel pairs, in whichever signs, with the largest activation."""
    rng = np.random.default_rng(high)
    seen = set()
    for spread in (1, 7, 60, 65, 127):
        for _ in range(10):
            codes = rng.integers(-spread - 1, spread + 1, (3, 2, 1, 3)).astype(np.int8)
            sums = [
                high * (abs(int(a)) + abs(int(b)))
                for channel in codes.reshape(3, -1)
                for a, b in itertools.combinations(channel, 2)
            ]
            assert may_saturate(codes, high) == (max(sums) > INT16_MAX)
            seen.add(max(sums) > INT16_MAX)
    assert seen == ({False, True} if high > 127 else {False})


def test_saturation_where_nothing_is_added():
    assert not may_saturate(np.full((4, 1, 1, 1), -128, np.int8), 255)


@pytest.mark.parametrize("bits", range(1, 8))
def test_no_weights_of_less_than_8_bits_saturate(bits):
    largest = np.full((2, 9), 2**bits - 1, np.int8)
    assert not may_saturate(largest, 2**bits - 1)
