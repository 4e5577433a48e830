# As adamw_10e.py, shorter.
_base_ = ["./adamw_10e.py"]
train_cfg = dict(max_epochs=5)
param_scheduler = [
    dict(type="CosineAnnealingLR", T_max=5, eta_min=0, by_epoch=True, convert_to_iter_based=True)
]
