"""MMEngine's launchers on a CPU; tests/models/test_distributed.py runs them."""

import mmengine
import torch

from mmvideoiq import compat


def test_config_without_launcher_is_unchanged():
    config = mmengine.Config(dict(launcher="none"))
    compat.fit_launcher_to_cpu(config)
    assert "model_wrapper_cfg" not in config and not torch.distributed.is_initialized()
