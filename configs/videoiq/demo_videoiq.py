# Demo, stage 4: the policy over stage 2's frozen network (load_from), its backbone from stage 3.
_base_ = [
    "../_base_/datasets/synthetic.py",
    "../_base_/models/slim_resnet_videoiq.py",
    "../_base_/schedules/adam_demo_30e.py",
    "../_base_/default_runtime.py",
]
model = dict(data_preprocessor={{_base_.data_preprocessor}})
default_hooks = dict(checkpoint=dict(save_best=None))
val_evaluator = [{{_base_.val_evaluator}}, {{_base_.cost_metric}}]
test_evaluator = val_evaluator
