"""Options that the commands which recognize videos share."""

from __future__ import annotations

from argparse import _ActionsContainer

from mmvideoiq.video.av_reader import SAMPLING
from mmvideoiq.video.preprocessing import READERS


def add_engine(parser: _ActionsContainer) -> None:
    """``--engine`` and ``--float-precision``."""
    parser.add_argument("--engine", default="openvino", help="openvino (default) or onnxruntime")
    parser.add_argument(
        "--float-precision",
        default="auto",
        metavar="P",
        help="of what runs in floats: f32, bf16, or auto (default): bf16 where the CPU has it, policies aside",
    )


def add_sampling(parser: _ActionsContainer) -> None:
    parser.add_argument("--sampling", choices=SAMPLING, help="of frames; default: the bundle's")


def add_reader(parser: _ActionsContainer) -> None:
    parser.add_argument("--reader", choices=READERS, default="av", help="av (PyAV, default) or decord")
