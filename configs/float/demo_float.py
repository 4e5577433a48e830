# Demo, stage 1: the float network on synthetic clips.
_base_ = [
    "../_base_/datasets/synthetic.py",
    "../_base_/models/slim_resnet_float.py",
    "../_base_/schedules/adam_demo_8e.py",
    "../_base_/default_runtime.py",
]
model = dict(data_preprocessor={{_base_.data_preprocessor}})
default_hooks = dict(checkpoint=dict(save_best=None))
