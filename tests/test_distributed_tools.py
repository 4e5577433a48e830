"""tools/dist_*.sh and slurm_*.sh: what they start, wrong numbers in one line, and real runs of two processes."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmvideoiq.data.synthetic import make_synthetic
from mmvideoiq.jobs import launch

CONFIG = "configs/float/demo_float.py"
NUMBERS = "NNODES NODE_RANK MASTER_ADDR PORT GPUS GPUS_PER_NODE CPUS_PER_TASK GRES SRUN_ARGS".split()


def environment(**changes: str) -> dict[str, str]:
    """The environment of this process without what the launchers read, this Python, and ``changes``."""
    kept = {key: value for key, value in os.environ.items() if key not in (*NUMBERS, "PYTHONPATH")}
    return {**kept, "PYTHON": sys.executable, **changes}


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def start(repo):
    """Run a script of ``tools`` from the root of the repository to its end."""

    def run(script: str, *argv: object, **changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", f"tools/{script}", *map(str, argv)],
            cwd=repo,
            env=environment(**changes),
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


# --- what is started --------------------------------------------------------------------------------------


@pytest.fixture
def echo(tmp_path) -> Path:
    """A program that prints its arguments, one a line."""
    return executable(tmp_path / "bin/echo", '#!/bin/sh\nprintf "%s\\n" "$@"\n')


FLAGS = ("--amp", "--cfg-options", "a.b=1 2", "c=[3,4]")


def test_flags_pass_through(start, echo, repo):
    printed = start("dist_train.sh", CONFIG, 2, *FLAGS, PYTHON=str(echo)).stdout.splitlines()
    module = ["-m", "mmvideoiq.jobs.launch", "2"]
    assert printed == [*module, f"{repo}/tools/train.py", CONFIG, "--launcher", "pytorch", *FLAGS]
    printed = start("dist_test.sh", CONFIG, "zoo://a", 2, *FLAGS, PYTHON=str(echo)).stdout.splitlines()
    assert printed == [*module, f"{repo}/tools/test.py", CONFIG, "zoo://a", "--launcher", "pytorch", *FLAGS]


def test_scripts_run_from_anywhere(echo, repo, tmp_path):
    (tmp_path / "my.py").touch()
    done = subprocess.run(
        ["bash", f"{repo}/tools/dist_train.sh", "my.py", "1"],
        cwd=tmp_path,
        env=environment(PYTHON=str(echo)),
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[3:5] == [f"{repo}/tools/train.py", "my.py"]


def test_slurm(start, tmp_path, repo):
    executable(tmp_path / "bin/srun", '#!/bin/sh\nprintf "%s\\n" "$@" "port $MASTER_PORT"\n')
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    printed = start(
        "slurm_train.sh", "part", "job", CONFIG, *FLAGS, PATH=path, PYTHON="py"
    ).stdout.splitlines()
    asked, command, port = printed[:7], printed[7:-1], printed[-1]
    wanted = (
        "partition=part job-name=job ntasks=8 ntasks-per-node=8 cpus-per-task=5 kill-on-bad-exit=1 gres=gpu:8"
    )
    assert asked == [f"--{option}" for option in wanted.split()]
    assert command == ["py", "-u", f"{repo}/tools/train.py", CONFIG, "--launcher", "slurm", *FLAGS]
    assert 12000 <= int(port.removeprefix("port ")) < 32000

    numbers = dict(GPUS="4", GRES="", CPUS_PER_TASK="2", SRUN_ARGS="--time=1 -x n1", PORT="29501")
    argv = ("slurm_test.sh", "p", "j", CONFIG, "a.pth")
    printed = start(*argv, PATH=path, PYTHON="py", **numbers).stdout.splitlines()
    wanted = "--ntasks=4 --ntasks-per-node=4 --cpus-per-task=2 --kill-on-bad-exit=1 --time=1 -x n1"
    assert printed[2:9] == wanted.split()
    test = ["py", "-u", f"{repo}/tools/test.py", CONFIG, "a.pth", "--launcher", "slurm", "port 29501"]
    assert printed[9:] == test


# --- mistakes, in one line ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["dist_train.sh", CONFIG], "usage: bash tools/dist_train.sh CONFIG GPUS [flags of tools/train.py]"),
        (
            ["dist_test.sh", CONFIG, 2],
            "usage: bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [flags of tools/test.py]",
        ),
        (["slurm_train.sh", "p", "j"], "usage: bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG [flags"),
        (
            ["slurm_test.sh", "p", "j", "c"],
            "usage: bash tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [",
        ),
        (["dist_train.sh", "no.py", 2], "dist_train.sh: error: config not found: no.py"),
        (["slurm_test.sh", "p", "j", "no.py", "c"], "slurm_test.sh: error: config not found: no.py"),
        (["slurm_train.sh", "p", "j", CONFIG], "slurm_train.sh: error: no srun here"),
    ],
)
def test_mistakes_are_one_line(start, argv, message):
    done = start(*argv)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(message) and done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["GPUS", "GPUS_PER_NODE", "CPUS_PER_TASK"])
@pytest.mark.parametrize("value", ["0", "two"])
def test_numbers_of_slurm(start, name, value):
    done = start("slurm_train.sh", "p", "j", CONFIG, **{name: value})
    wanted = f"slurm_train.sh: error: {name} must be a whole number >= 1, got '{value}'\n"
    assert (done.returncode, done.stderr) == (2, wanted)


@pytest.fixture
def numbers(monkeypatch):
    for name in NUMBERS:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch.setenv


def refused(capsys, gpus: str, script: str = launch.__file__) -> str:
    """The one line with which the launcher ends before it starts anything."""
    assert launch.main([gpus, script]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("launch: error: ")


@pytest.mark.parametrize(
    ("given", "gpus", "message"),
    [
        ({}, "two", "GPUS must be a whole number >= 1, got 'two'"),
        ({}, "0", "GPUS must be a whole number >= 1, got '0'"),
        (dict(NNODES="-1"), "1", "NNODES must be a whole number >= 1, got '-1'"),
        (dict(NNODES="2", NODE_RANK="2"), "1", "NODE_RANK must be a whole number in 0..1, got '2'"),
        (dict(PORT="99999"), "1", "PORT must be a whole number in 1..65535, got '99999'"),
        (dict(NNODES="2"), "1", "NNODES=2 needs MASTER_ADDR, the address of the machine with NODE_RANK=0"),
    ],
)
def test_numbers_of_the_launcher(capsys, numbers, given, gpus, message):
    for name, value in given.items():
        numbers(name, value)
    assert refused(capsys, gpus) == message


def test_taken_port_and_missing_script(capsys, numbers):
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        numbers("PORT", str(other.getsockname()[1]))
        assert (
            refused(capsys, "1") == f"PORT={other.getsockname()[1]} is in use on this machine: choose another"
        )
    assert refused(capsys, "1", "no.py") == "script not found: no.py"


def test_more_processes_than_devices(capsys, numbers, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    launch.check_devices(2)
    assert refused(capsys, "4").startswith("4 processes, but this machine has 2 GPUs: start at most 2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    launch.check_devices(4)


def test_flags_of_torchrun(numbers):
    flags = dict(flag.split("=") for flag in launch.torchrun_flags("3"))
    port = int(flags.pop("--master-port"))
    assert 0 < port < 65536
    one = {"--nnodes": "1", "--node-rank": "0", "--nproc-per-node": "3", "--master-addr": "127.0.0.1"}
    assert flags == one
    for name, value in dict(NNODES="2", NODE_RANK="1", MASTER_ADDR="10.0.0.1").items():
        numbers(name, value)
    wanted = "--nnodes=2 --node-rank=1 --nproc-per-node=1 --master-addr=10.0.0.1 --master-port=29500"
    assert launch.torchrun_flags("1") == wanted.split()


def test_what_torchrun_writes_goes_with_the_launch(monkeypatch, tmp_path):
    def run(args):
        Path(args.log_dir).mkdir()
        assert list(tmp_path.iterdir()) == [Path(args.log_dir).parent]

    monkeypatch.setattr(launch.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("torch.distributed.run.run", run)
    monkeypatch.setattr(launch.logging, "disable", lambda level: None)  # it would be for all tests
    monkeypatch.setenv(launch.REPORTED, "")
    assert launch.launch(["--nproc-per-node=1"], ["script.py"]) == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "status", "line"),
    [
        ("sys.exit(3)", 3, "launch: process 1 ended with status 3\n"),
        ("sys.exit(2)", 2, ""),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            128 + signal.SIGKILL,
            "launch: process 1 was ended by SIGKILL\n",
        ),
    ],
)
def test_a_process_that_fails(tmp_path, repo, ending, status, line):
    script = tmp_path / "script.py"
    script.write_text(
        f"import os, signal, sys, time\nif os.environ['RANK'] == '1':\n    {ending}\ntime.sleep(60)\n"
    )
    left = tmp_path / "temporary"
    left.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "mmvideoiq.jobs.launch", "2", str(script)],
        cwd=repo,
        env=environment(TMPDIR=str(left)),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (status, line)
    assert not list(left.iterdir())


# --- real runs --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo(tmp_path_factory, repo):
    """Options and environment to run the demo's float network on a few clips of its own."""
    if torch.cuda.is_available():
        pytest.skip("these runs share the CPU")
    data = tmp_path_factory.mktemp("demo") / "data"
    make_synthetic(data, train=30, val=21, test=13, seed=0)
    options = ["train_cfg.val_interval=1", "train_dataloader.batch_size=8", "default_hooks.logger.interval=1"]
    return ["--cfg-options", *options], dict(DATA_ROOT=str(data), OMP_NUM_THREADS="1")


def scalars(work_dir: Path) -> list[dict]:
    """All lines of MMAction2's JSON logs in the order of time."""
    logs = sorted(work_dir.glob("*/vis_data/scalars.json"))
    return [json.loads(line) for log in logs for line in log.read_text().splitlines()]


def measured(work_dir: Path) -> float:
    """The accuracy that a test has written."""
    (file,) = work_dir.glob("*/*.json")
    return json.loads(file.read_text())["acc/top1"]


@pytest.mark.slow
def test_the_demo_trains_resumes_and_tests_with_two_processes(start, demo, tmp_path, repo):
    options, env = demo
    whole, halves = tmp_path / "whole", tmp_path / "halves"

    def train(work_dir: Path, *flags: str) -> None:
        scaled = ["auto_scale_lr.base_batch_size=8", "--auto-scale-lr"]  # two times 8: twice the rate
        argv = ["--work-dir", work_dir, *options, "train_cfg.max_epochs=2", *scaled, *flags]
        done = start("dist_train.sh", CONFIG, 2, *argv, **env)
        assert done.returncode == 0, done.stderr

    train(whole)
    halves.mkdir()
    first = shutil.copy(whole / "epoch_1.pth", halves)  # as if it had been interrupted
    (halves / "last_checkpoint").write_text(str(first))
    train(halves, "--resume")
    steps = [line for line in scalars(whole) if "loss" in line]
    assert [line["epoch"] for line in steps] == [1, 1, 2, 2] and steps[0]["lr"] == pytest.approx(2 * 3e-3)
    assert [line["epoch"] for line in scalars(halves) if "loss" in line] == [2, 2]
    wanted, got = (torch.load(folder / "epoch_2.pth") for folder in (whole, halves))
    assert got["meta"]["iter"] == wanted["meta"]["iter"] == 4
    for name, value in wanted["state_dict"].items():
        torch.testing.assert_close(got["state_dict"][name], value, msg=name)

    checkpoint = whole / "epoch_2.pth"  # 13 clips: 7 and 6
    done = start("dist_test.sh", CONFIG, checkpoint, 2, "--work-dir", tmp_path / "two", **env)
    assert done.returncode == 0, done.stderr
    argv = [sys.executable, "tools/test.py", CONFIG, checkpoint, "--work-dir", tmp_path / "one"]
    subprocess.run(argv, cwd=repo, env=environment(**env), check=True, capture_output=True)
    assert measured(tmp_path / "two") == measured(tmp_path / "one")


@pytest.mark.slow
def test_two_machines(demo, tmp_path, repo):
    """The script once as each of two machines, here one and the same."""
    options, env = demo
    machines = dict(NNODES="2", MASTER_ADDR="127.0.0.1", PORT=str(launch.free_port()))
    argv = ["bash", "tools/dist_train.sh", CONFIG, "1", "--work-dir", str(tmp_path), *options]
    running = [
        subprocess.Popen(
            [*argv, "train_cfg.max_epochs=1"],
            cwd=repo,
            env=environment(**env, **machines, NODE_RANK=str(rank)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        printed = [process.communicate(timeout=300)[0] for process in running]
    finally:
        for process in running:
            process.terminate()  # torchrun ends what it began
    assert [process.returncode for process in running] == [0, 0], "\n".join(printed)
    assert torch.load(tmp_path / "epoch_1.pth")["meta"]["iter"] == 2  # 30 clips by 8 on each


SRUN = f"""#!{sys.executable}
import os, subprocess, sys
options = [arg for arg in sys.argv[1:] if arg.startswith("--")][:6]
(number,) = (int(arg.split("=")[1]) for arg in options if arg.startswith("--ntasks="))
command = sys.argv[sys.argv.index({sys.executable!r}):]
slurm = dict(SLURM_NTASKS=str(number), SLURM_NODELIST="here")
tasks = [
    subprocess.Popen(command, env={{**os.environ, **slurm, "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)}})
    for i in range(number)
]
sys.exit(max(task.wait() for task in tasks))
"""


@pytest.mark.slow
def test_slurm_without_gpus(start, demo, tmp_path):
    """Two tasks of a stand-in for srun, which starts them here."""
    options, env = demo
    executable(tmp_path / "bin/srun", SRUN)
    executable(tmp_path / "bin/scontrol", "#!/bin/sh\necho 127.0.0.1\n")
    cluster = dict(
        GPUS="2", GRES="", PORT=str(launch.free_port()), PATH=f"{tmp_path}/bin:{os.environ['PATH']}"
    )
    argv = ["--work-dir", tmp_path, *options, "train_cfg.max_epochs=1"]
    done = start("slurm_train.sh", "part", "job", CONFIG, *argv, **env, **cluster)
    assert done.returncode == 0, done.stderr
    assert torch.load(tmp_path / "epoch_1.pth")["meta"]["iter"] == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--cfg-options", "data_root=/no", "train_dataloader.dataset.data_root=/no"],
            "ann_file /no/train.txt does",
        ),
        (["--cfg-options", "sync_bn=torch"], "sync_bn='torch' needs GPUs, and this machine has none"),
        (["--amp"], "only available training on gpu"),
    ],
)
def test_errors_are_reported_once(start, demo, tmp_path, flags, message):
    done = start("dist_train.sh", CONFIG, 2, "--work-dir", tmp_path, *flags, **demo[1])
    (line,) = [line for line in done.stderr.splitlines() if "error: " in line]
    assert done.returncode == 2 and line.startswith("train.py: error: ") and message in line
    assert "Traceback" not in done.stderr
