"""Conversion of float checkpoints and of the authors' release to mmvideoiq, from state dict to state dict.

A ``Layer`` is one convolution with its batch norm and its name in every layout; ``release`` and ``float_network`` list
which tensor goes where. Converted names are ``backbone.net.<name in MMAction2>``, ``policy.*``, ``cls_head.*`` and
``teacher.*``.
"""

from mmvideoiq.checkpoint.files import load_state, unwrap, write_config
from mmvideoiq.checkpoint.fit import check_finite, load_fitting
from mmvideoiq.checkpoint.float_network import FloatSpec, convert_float, float_model, read_float
from mmvideoiq.checkpoint.layers import Layer, mobilenet_layers, resnet_layers
from mmvideoiq.checkpoint.release import ReleaseSpec, convert_release, is_release, read_release, release_model
from mmvideoiq.checkpoint.tensors import Entry, complete

__all__ = [
    "Entry",
    "FloatSpec",
    "Layer",
    "ReleaseSpec",
    "check_finite",
    "complete",
    "convert_float",
    "convert_release",
    "float_model",
    "is_release",
    "load_fitting",
    "load_state",
    "mobilenet_layers",
    "read_float",
    "read_release",
    "release_model",
    "resnet_layers",
    "unwrap",
    "write_config",
]
