# Scenes, stage 3: the policy's MobileNetV2 as a recognizer of 84x84 frames.
_base_ = ["../float/scenes_float.py"]
train_dataloader = dict(dataset=dict(pipeline={{_base_.policy_train_pipeline}}))
val_dataloader = dict(dataset=dict(pipeline={{_base_.policy_test_pipeline}}))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=15)
param_scheduler = [
    dict(type="CosineAnnealingLR", T_max=15, eta_min=0, by_epoch=True, convert_to_iter_based=True)
]
