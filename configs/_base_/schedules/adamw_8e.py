# As adamw_25e.py, for a network of which a part is frozen.
_base_ = ["./adamw_25e.py"]
train_cfg = dict(max_epochs=8, val_interval=8)
param_scheduler = [
    dict(type="CosineAnnealingLR", T_max=8, eta_min=0, by_epoch=True, convert_to_iter_based=True)
]
