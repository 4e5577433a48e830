# As adamw_25e.py, for a small backbone that begins from random weights: it learns at the rate of the other layers.
_base_ = ["./adamw_25e.py"]
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=1.0))))
train_cfg = dict(max_epochs=30)
param_scheduler = [
    dict(type="CosineAnnealingLR", T_max=30, eta_min=0, by_epoch=True, convert_to_iter_based=True)
]
