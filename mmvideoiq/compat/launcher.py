"""MMEngine's launchers on a machine without a GPU."""

import os
import subprocess
from typing import Any


def fit_launcher_to_cpu(cfg: Any) -> None:
    """MMEngine's launchers "pytorch" and "slurm" assume CUDA: change a config in place so that they run on a CPU.

    MMEngine initializes nccl, selects a CUDA device and passes device ids to the model wrapper. Here the process group
    uses gloo with the launcher's environment, and the wrapper gets no device. Does nothing with an accelerator or for
    other launchers. Not part of ``apply()``, since it concerns a single config.
    """
    import torch
    from mmengine.device import get_device

    launcher = cfg.get("launcher", "none")
    if launcher not in ("pytorch", "slurm") or get_device() != "cpu":
        return
    if cfg.get("sync_bn"):
        raise ValueError(f"sync_bn={cfg.sync_bn!r} needs GPUs, and this machine has none: leave it out")
    if launcher == "slurm":
        _name_slurm_task()
    cfg.setdefault(
        "model_wrapper_cfg",
        dict(
            type="MMDistributedDataParallel",
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=cfg.get("find_unused_parameters", False),
        ),
    )
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")


def _name_slurm_task() -> None:
    """Set torch's environment variables of this process from those of Slurm."""
    environ = os.environ
    if "MASTER_ADDR" not in environ:
        command = ["scontrol", "show", "hostnames", environ["SLURM_NODELIST"]]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        environ["MASTER_ADDR"] = done.stdout.split()[0]
    environ.setdefault("MASTER_PORT", "29500")
    for name, slurm in (("RANK", "PROCID"), ("WORLD_SIZE", "NTASKS"), ("LOCAL_RANK", "LOCALID")):
        environ[name] = environ[f"SLURM_{slurm}"]
