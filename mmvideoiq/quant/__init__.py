"""Any-precision layers in plain torch: one set of weights, read at the active precision."""

from mmvideoiq.quant.calibrate import calibrate_clips_, calibrate_norms_
from mmvideoiq.quant.convert import ConversionReport, SampleError, to_any_precision_
from mmvideoiq.quant.layers import (
    AnyPrecisionConv2d,
    AnyPrecisionConv3d,
    AnyPrecisionLinear,
    SwitchableBatchNorm,
)
from mmvideoiq.quant.precision import PrecisionSwitch
from mmvideoiq.quant.quantizers import Dorefa, Lsq, Nested, Pact, build_quantizer

__all__ = [
    "AnyPrecisionConv2d",
    "AnyPrecisionConv3d",
    "AnyPrecisionLinear",
    "ConversionReport",
    "Dorefa",
    "Lsq",
    "Nested",
    "Pact",
    "PrecisionSwitch",
    "SampleError",
    "SwitchableBatchNorm",
    "build_quantizer",
    "calibrate_clips_",
    "calibrate_norms_",
    "to_any_precision_",
]
