# Gestures, stage 2: 8 bits at three frame sizes; all learn from the highest. load_from is stage 1's checkpoint.
_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/gestures.py",
    "../_base_/models/mobilenet_v2_any_precision.py",
    "../_base_/schedules/adamw_5e.py",
]
data_preprocessor = _base_.random_frames
modes = [dict(bits=8), dict(bits=8, size=160), dict(bits=8, size=96)]
model = dict(
    backbone=dict(precisions=modes),
    cls_head=dict(num_classes=_base_.num_classes),
    data_preprocessor=data_preprocessor,
)
