# Gestures, stage 2: 8 bits at three frame sizes, the frame itself too; all learn from the highest. Its first half stays
# as stage 1 left it, but for batch norms and clips, which are fitted. load_from is stage 1's checkpoint.
_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/gestures.py",
    "../_base_/models/mobilenet_v2_any_precision.py",
    "../_base_/schedules/adamw_8e.py",
]
data_preprocessor = _base_.random_frames
modes = [dict(bits=8), dict(bits=8, size=160), dict(bits=8, size=96)]
model = dict(
    backbone=dict(
        backbone=dict(frozen_stages=4), precisions=modes, quantize_stem=True, input_range=(-1.0, 1.0)
    ),
    cls_head=dict(num_classes=_base_.num_classes),
    data_preprocessor=data_preprocessor,
)
