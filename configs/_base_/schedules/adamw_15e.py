# As adamw_25e.py, for small frames.
_base_ = ["./adamw_25e.py"]
train_cfg = dict(max_epochs=15)
param_scheduler = [
    dict(type="CosineAnnealingLR", T_max=15, eta_min=0, by_epoch=True, convert_to_iter_based=True)
]
