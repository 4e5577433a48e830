# Mini-Kinetics, stage 1: ResNet-18 in float, from ImageNet weights.
_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/mini_kinetics.py",
    "../_base_/models/resnet18_float.py",
    "../_base_/schedules/sgd_100e.py",
]
model = dict(
    cls_head=dict(num_classes={{_base_.num_classes}}), data_preprocessor={{_base_.data_preprocessor}}
)
