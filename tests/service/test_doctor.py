"""``mmvideoiq doctor``: what each check finds, on this machine and on made-up ones, and what is told."""

import json
import os
import sys
from importlib.util import find_spec as real_find_spec
from pathlib import Path

import pytest
from av.error import FFmpegError

from mmvideoiq import compat
from mmvideoiq.service import codecs, doctor, findings, installation, machine, processor
from mmvideoiq.service.findings import Finding


def states(found) -> dict[str, str]:
    return {each.name: each.state for each in found}


def by_name(found, name: str) -> Finding:
    (each,) = [each for each in found if each.name == name]
    return each


# --- this machine ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def here() -> dict[str, list[Finding]]:
    return doctor.examine()


def test_this_environment_is_sound(here):
    pytest.importorskip("openvino")
    assert list(here) == ["installation", "engines", "processor", "videos", "machine"]
    wrong = [each for name in here.keys() - {"machine"} for each in here[name] if each.state == "red"]
    assert wrong == []
    assert {"Python", "packages", "PyTorch", "MMAction2", "zoo"} <= states(here["installation"]).keys()
    assert states(here["engines"]).keys() == {"openvino", "onnxruntime"}
    assert {"memory", "threads", "cache"} == states(here["machine"]).keys()


def test_every_patch_is_named_once(here):
    listed = [
        by_name(here["installation"], f"patches {kind}").found.split(", ")
        for kind in ("active", "not needed")
    ]
    names = [name for names in listed for name in names if name != "none"]
    assert sorted(names) == sorted(patch.__name__ for patch in compat.PATCHES)


def test_a_long_path_is_told_whole(capsys):
    place = "/" + "x" * 300
    doctor.show({"machine": [Finding(name="cache", state="green", found=place, todo="")]})
    told = "".join(capsys.readouterr().out.replace("green", "").replace("cache", "").split())
    assert place in told


# --- the processor --------------------------------------------------------------------------------------------------

SERVER = {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"}


@pytest.mark.parametrize(
    ("architecture", "flags", "expected"),
    [
        ("x86_64", SERVER, dict(processor="green", VNNI="green", AMX="green", bf16="green")),
        ("x86_64", {"avx2"}, dict(processor="green", VNNI="yellow", AMX="green", bf16="yellow")),
        ("x86_64", {"sse4_2"}, dict(processor="yellow", VNNI="yellow", AMX="green", bf16="yellow")),
        ("aarch64", {"asimd", "asimddp"}, {"processor": "green", "8-bit products": "green"}),
        ("aarch64", {"asimd"}, {"processor": "green", "8-bit products": "yellow"}),
        ("arm64", set(), dict(processor="yellow")),
    ],
)
def test_processors(architecture, flags, expected, monkeypatch):
    for name in processor.ISA_LIMITS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(processor, "cpu_flags", lambda: frozenset(flags))
    monkeypatch.setattr(processor.platform, "machine", lambda: architecture)
    found = list(processor.check_processor())
    assert states(found) == expected
    assert all(each.todo for each in found if each.state != "green")


def test_a_limit_of_the_environment_is_told(monkeypatch):
    monkeypatch.setattr(processor, "cpu_flags", lambda: frozenset(SERVER))
    monkeypatch.setattr(processor.platform, "machine", lambda: "x86_64")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    found = list(processor.check_processor())
    assert by_name(found, "ONEDNN_MAX_CPU_ISA").state == by_name(found, "VNNI").state == "yellow"


# --- codecs ---------------------------------------------------------------------------------------------------------


def test_a_clip_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "clip.avi"
    codecs.write(path, codecs.CODECS["MPEG-4"])
    assert codecs.reads(path) == ""


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="Linux schedules so")
def test_writing_av1_leaves_the_process_as_it_was(tmp_path):
    """Its encoder makes what root runs real-time, which would keep every other process from the CPU."""
    before = os.sched_getscheduler(0), os.sched_getparam(0).sched_priority
    try:
        codecs.write(tmp_path / "a.mp4", codecs.CODECS["AV1"])
    except (FFmpegError, ValueError):
        pytest.skip("this FFmpeg does not write AV1")
    assert (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority) == before


def test_codecs_that_fail(monkeypatch):
    def write(path, codec):
        path.write_bytes(b"no video" * 99) if codec.suffix != ".avi" else plain(path, codec)

    plain = codecs.write
    kinds = {
        "good": codecs.Codec("mpeg4", "mpeg4", ".avi"),
        "common": codecs.Codec("h264", "libx264", ".mp4", common=True),
        "rare": codecs.Codec("vp8", "libvpx", ".webm"),
        "not written": codecs.Codec("h264", "no_such_encoder", ".avi"),
        "unknown": codecs.Codec("no_such_decoder", "no_such_encoder", ".avi"),
    }
    monkeypatch.setattr(codecs, "CODECS", kinds)
    monkeypatch.setattr(codecs, "write", write)
    found = list(codecs.check_codecs())
    assert states(found) == {
        "good": "green", "common": "red", "rare": "yellow", "unknown": "yellow", "not written": "green"
    }  # fmt: skip
    assert "is not a video" in by_name(found, "common").found and by_name(found, "common").todo
    assert "not tried" in by_name(found, "not written").found


def test_other_frames_than_were_written_are_noticed(tmp_path, monkeypatch):
    path = tmp_path / "clip.avi"
    codecs.write(path, codecs.CODECS["MPEG-4"])
    monkeypatch.setattr(codecs, "level", lambda number: 40 + 24 * number + 30 * (number == 3))
    assert codecs.reads(path) == "frames 3 are not what was written"


# --- the machine ----------------------------------------------------------------------------------------------------


@pytest.fixture
def meminfo(tmp_path) -> Path:
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:  8000000 kB\nMemFree:  1 kB\nMemAvailable:  4000000 kB\n")
    return path


def test_memory_of_a_machine_and_of_a_container(tmp_path, meminfo):
    assert machine.memory(tmp_path, meminfo) == (8000000 * 1024, 4000000 * 1024)
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.memory(tmp_path, meminfo) == (8000000 * 1024, 4000000 * 1024)
    (tmp_path / "memory.max").write_text("1000000000\n")
    (tmp_path / "memory.current").write_text("400000000\n")
    assert machine.memory(tmp_path, meminfo) == (1e9, 6e8)
    assert machine.memory(tmp_path, tmp_path / "none") is None


@pytest.mark.parametrize(("free", "state"), [(1e8, "red"), (5e8, "yellow"), (4e9, "green"), (None, "green")])
def test_little_memory(free, state, monkeypatch):
    monkeypatch.setattr(machine, "memory", lambda: free and (8e9, free))
    (found,) = machine.check_memory()
    assert found.state == state and bool(found.todo) == (state != "green")


def test_the_time_of_a_container(tmp_path, monkeypatch):
    assert machine.cpu_quota(tmp_path) is None
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert machine.cpu_quota(tmp_path) is None
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("150000\n")
    assert machine.cpu_quota(tmp_path) == 1.5
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert machine.cpu_quota(tmp_path) == 2.5
    monkeypatch.setattr(machine, "usable_cpus", lambda: 8)
    monkeypatch.setattr(machine, "cpu_quota", lambda: 2.5)
    (found,) = machine.check_threads()
    assert (found.state, found.todo) == ("yellow", "--threads 2")


def test_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMVIDEOIQ_HOME", str(tmp_path / "new/home"))
    (found,) = machine.check_cache()
    assert found.state == "green" and str(tmp_path / "new/home/zoo") in found.found
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(machine, "ROOM", float("inf"))
    assert states(machine.check_cache()) == {"cache": "yellow"}
    (tmp_path / "file").touch()
    monkeypatch.setenv("MMVIDEOIQ_HOME", str(tmp_path / "file/home"))
    assert states(machine.check_cache()) == {"cache": "red"}


# --- the installation -----------------------------------------------------------------------------------------------


def without(monkeypatch, *names: str) -> None:
    for module in ("service.installation", "service.main"):
        monkeypatch.setattr(
            f"mmvideoiq.{module}.find_spec", lambda name: None if name in names else real_find_spec(name)
        )


def test_engines_that_are_missing(monkeypatch):
    pytest.importorskip("onnxruntime")
    without(monkeypatch, "openvino")
    found = list(installation.check_engines())
    assert states(found) == {"openvino": "yellow", "onnxruntime": "green"}
    assert found[0].todo == "--engine onnxruntime, or pip install 'mmvideoiq[runtime]'"
    without(monkeypatch, "openvino", "onnxruntime")
    assert states(installation.check_engines()) == {"openvino": "red", "onnxruntime": "red"}


def test_an_engine_that_does_not_run(monkeypatch):
    from mmvideoiq.deploy.session import VideoSession

    def broken(*_, **__):
        raise RuntimeError("illegal\ninstruction")

    monkeypatch.setattr(VideoSession, "open", broken)
    assert installation.runs("numpy").endswith(", does not run: illegal instruction")


def test_packages_that_are_missing(monkeypatch):
    without(monkeypatch, "av", "torch")
    found = list(installation.check_packages())
    assert (
        by_name(found, "packages").state == "red" and "av not installed" in by_name(found, "packages").found
    )
    train = by_name(found, "[train]")
    assert train.state == "green" and "torch" in train.found and "mmvideoiq[train]" in train.todo
    assert states(installation.check_torch()) == {"PyTorch": "green"}
    assert list(installation.check_mmaction()) == []


def test_an_mmaction_that_does_not_import(monkeypatch):
    without(monkeypatch, "mmaction")
    assert states(installation.check_mmaction()) == {"MMAction2": "yellow"}
    monkeypatch.undo()

    def apply():
        raise ModuleNotFoundError("MMAction2 needs mmcv: pip install mmcv-lite==2.1.0")

    monkeypatch.setattr(compat, "apply", apply)
    (found,) = installation.check_mmaction()
    assert found.state == "red" and "pip install mmcv-lite" in found.found


def test_two_owners_of_cv2(monkeypatch):
    monkeypatch.setattr(
        compat, "cv2_owners", lambda: {"opencv-python": "4.1", "opencv-python-headless": "5.0"}
    )
    (found,) = installation.check_cv2()
    assert found.state == "yellow" and "pip uninstall -y opencv-python" in found.todo


# --- what is told ---------------------------------------------------------------------------------------------------


def check_broken():
    yield Finding(name="never shown", state="green", found="")
    raise ZeroDivisionError("of the check")


def check_lacking():
    raise ModuleNotFoundError("No module named 'yaml'", name="yaml")


def test_a_check_that_breaks_is_red():
    (found,) = findings.findings(check_broken)
    assert (found.name, found.state) == ("broken", "red") and "ZeroDivisionError: of the check" in found.found
    (found,) = findings.findings(check_lacking)
    assert (found.name, found.found) == ("lacking", "cannot be checked without yaml")


def check_some():
    yield Finding(name="a", state="green", found="fine")
    yield Finding(name="b [c]", state="yellow", found="slow", todo="hurry")


@pytest.mark.parametrize(("checks", "code"), [((check_some,), 0), ((check_some, check_broken), 1)])
def test_lines_and_exit_codes(checks, code, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "GROUPS", {"group": checks})
    assert doctor.main(["--json"]) == code
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[:2] == [
        dict(group="group", name="a", state="green", found="fine", todo=""),
        dict(group="group", name="b [c]", state="yellow", found="slow", todo="hurry"),
    ]
    assert [row["state"] for row in rows].count("red") == code
    assert doctor.main([]) == code
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == f"1 green, 1 yellow, {code} red"
    assert [line.split() for line in printed.splitlines() if "[c]" in line] == [
        ["yellow", "b", "[c]", "slow", "hurry"]
    ]


def test_without_rich_there_are_lines(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "GROUPS", {"group": (check_some,)})
    for name in [name for name in sys.modules if name.split(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    assert doctor.main([]) == 0
    assert capsys.readouterr().out == "green  a: fine\nyellow b [c]: slow; hurry\n1 green, 1 yellow, 0 red\n"
