# Mini-Kinetics, stage 4: the policy over ResNet-18; the README of this folder lists its initial weights.
_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/mini_kinetics.py",
    "../_base_/models/resnet18_videoiq.py",
    "../_base_/schedules/sgd_policy_50e.py",
]
model = dict(
    cls_head=dict(num_classes={{_base_.num_classes}}),
    teacher=dict(cls_head=dict(num_classes={{_base_.num_classes}})),
    num_frames={{_base_.num_frames}},
    data_preprocessor={{_base_.data_preprocessor}},
)
val_evaluator = [{{_base_.val_evaluator}}, {{_base_.cost_metric}}]
test_evaluator = val_evaluator
