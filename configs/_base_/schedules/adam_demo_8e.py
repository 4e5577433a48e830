# As adam_demo.py, half as long.
_base_ = ["./adam_demo.py"]
train_cfg = dict(max_epochs=8, val_interval=4)
param_scheduler = [
    dict(type="CosineAnnealingLR", T_max=8, eta_min=1e-4, by_epoch=True, convert_to_iter_based=True)
]
