# Mini-Sports1M, stage 1: ResNet-50 in float, from ImageNet weights.
_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/mini_sports1m.py",
    "../_base_/models/resnet50_float.py",
    "../_base_/schedules/sgd_100e.py",
]
model = dict(
    cls_head=dict(num_classes={{_base_.num_classes}}), data_preprocessor={{_base_.data_preprocessor}}
)
