# Gestures, stage 2: three frame sizes, all learn from the highest. The first half stays as stage 1 left it, but for
# batch norms and clips, which are fitted. load_from is stage 1's checkpoint.
_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/gestures.py",
    "../_base_/models/mobilenet_v2_any_precision.py",
    "../_base_/models/mobilenet_v2_sizes.py",
    "../_base_/schedules/adamw_8e.py",
]
data_preprocessor, head = _base_.random_frames, dict(num_classes=_base_.num_classes)
backbone = dict(**_base_.at_sizes, backbone=dict(frozen_stages=4))
model = dict(backbone=backbone, cls_head=head, data_preprocessor=data_preprocessor)
