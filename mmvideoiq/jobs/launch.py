"""Start a command once per device: ``python -m mmvideoiq.jobs.launch GPUS SCRIPT [ARGUMENTS...]``; what dist_*.sh call.

torchrun does the work. NNODES, NODE_RANK, MASTER_ADDR and PORT of the environment describe the machines; one machine
needs none of them. Errors in them are reported in one line before any process starts.
"""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
import tempfile
from pathlib import Path

from mmvideoiq.jobs.environment import thread_limits, usable_cpus
from mmvideoiq.jobs.errors import REPORTED, one_line_errors, traceback_wanted, write_any_text
from mmvideoiq.jobs.signals import exit_code, restore_signals

PORT = 29500  # of the first of several machines, unless PORT is set


def whole_number(name: str, value: str, low: int, high: int | None = None) -> int:
    """``value`` as a number in [low, high]; ValueError with ``name`` otherwise."""
    if not value.isdecimal() or int(value) < low or (high is not None and int(value) > high):
        reach = f"in {low}..{high}" if high is not None else f">= {low}"
        raise ValueError(f"{name} must be a whole number {reach}, got {value!r}")
    return int(value)


def check_devices(processes: int) -> None:
    """ValueError if this machine has GPUs, but fewer than ``processes``; without GPUs all share the CPU."""
    import torch

    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if 0 < devices < processes:
        raise ValueError(
            f"{processes} processes, but this machine has {devices} GPU{'s' if devices > 1 else ''}: start at most "
            f"{devices}, or CUDA_VISIBLE_DEVICES=-1 to use the CPU"
        )


def torchrun_flags(gpus: str) -> list[str]:
    """What torchrun needs to know for ``gpus`` processes on this machine, from the environment.

    Raises:
        ValueError: a number or address is invalid; more processes than GPUs; the port is taken.
    """
    processes = whole_number("GPUS", gpus, 1)
    nodes = whole_number("NNODES", os.environ.get("NNODES", "1"), 1)
    node = whole_number("NODE_RANK", os.environ.get("NODE_RANK", "0"), 0, nodes - 1)
    address = os.environ.get("MASTER_ADDR", "127.0.0.1")
    if nodes > 1 and "MASTER_ADDR" not in os.environ:
        raise ValueError(f"NNODES={nodes} needs MASTER_ADDR, the address of the machine with NODE_RANK=0")
    if nodes == 1 and "PORT" not in os.environ:
        port = free_port()
    else:
        port = whole_number("PORT", os.environ.get("PORT", str(PORT)), 1, 65535)
        if node == 0 and taken(port):
            raise ValueError(f"PORT={port} is in use on this machine: choose another")
    check_devices(processes)
    return [
        f"--nnodes={nodes}",
        f"--node-rank={node}",
        f"--nproc-per-node={processes}",
        f"--master-addr={address}",
        f"--master-port={port}",
    ]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return True
    return False


def share_cores(processes: int) -> None:
    """Give each process its share of the cores, where the environment does not set it."""
    for name, threads in thread_limits(max(1, usable_cpus() // processes)).items():
        os.environ.setdefault(name, threads)


def launch(flags: list[str], command: list[str]) -> int:
    """Run ``command`` under torchrun; the exit status of the process that failed first, or 0."""
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.disable(logging.ERROR)  # of torchrun: a failed process has reported its error itself
    try:
        with tempfile.TemporaryDirectory() as folder:
            os.environ[REPORTED] = str(Path(folder, "reported"))
            logs = f"--log-dir={folder}/logs"  # torchrun would leave a folder of its own
            run.run(run.parse_args([*flags, logs, *command]))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            print(f"launch: process {rank} was ended by {failure.signal_name()}", file=sys.stderr)
        elif failure.exitcode != 2:  # 2: a user's mistake, already reported in one line
            print(f"launch: process {rank} ended with status {failure.exitcode}", file=sys.stderr)
        return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
    except SignalException as error:
        return 128 + error.sigval
    except KeyboardInterrupt as stop:
        return exit_code(stop)
    return 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="launch", description=__doc__)
    parser.add_argument("gpus", metavar="GPUS", help="processes on this machine, one per GPU")
    parser.add_argument("script", metavar="SCRIPT", help="a Python file that takes --launcher pytorch")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="passed on to it as they are")
    write_any_text()
    args = parser.parse_args(argv)
    try:
        if not Path(args.script).is_file():
            raise ValueError(f"script not found: {args.script}")
        flags = torchrun_flags(args.gpus)
    except (ImportError, ValueError) as error:
        if traceback_wanted():
            raise
        print(f"launch: error: {error}", file=sys.stderr)
        return 2
    share_cores(int(args.gpus))
    return launch(flags, [args.script, *args.arguments])


if __name__ == "__main__":
    restore_signals()
    with one_line_errors("launch"):
        raise SystemExit(main())
