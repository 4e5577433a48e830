# Fights, stage 4: the policy over stage 2's frozen network; without augmentation its features are computed once.
_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/fights.py",
    "../_base_/models/mobilenet_v2_videoiq.py",
    "../_base_/schedules/adamw_10e.py",
]
model = dict(
    cls_head=dict(num_classes={{_base_.num_classes}}),
    data_preprocessor={{_base_.data_preprocessor}},
    cache_features=True,
)
train_dataloader = dict(dataset=dict(pipeline={{_base_.test_pipeline}}))
val_evaluator = [{{_base_.val_evaluator}}, {{_base_.cost_metric}}]
test_evaluator = val_evaluator
