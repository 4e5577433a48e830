# FCVID, stage 2: ResNet-18 at all precisions, from stage 1 (load_from, model.teacher.checkpoint).
_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/fcvid.py",
    "../_base_/models/resnet18_any_precision.py",
    "../_base_/schedules/sgd_any_precision_100e.py",
]
model = dict(
    cls_head=dict(num_classes={{_base_.num_classes}}),
    teacher=dict(cls_head=dict(num_classes={{_base_.num_classes}})),
    data_preprocessor={{_base_.data_preprocessor}},
)
