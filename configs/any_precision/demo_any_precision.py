# Demo, stage 2: the same network at 32, 4 and 2 bits; load_from is stage 1's checkpoint.
_base_ = [
    "../_base_/datasets/synthetic.py",
    "../_base_/models/slim_resnet_any_precision.py",
    "../_base_/schedules/adam_demo_8e.py",
    "../_base_/default_runtime.py",
]
model = dict(data_preprocessor={{_base_.data_preprocessor}})
default_hooks = dict(checkpoint=dict(save_best=None))
