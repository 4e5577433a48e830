# As adam_demo.py, twice as long.
_base_ = ["./adam_demo.py"]
train_cfg = dict(max_epochs=30)
param_scheduler = [
    dict(type="CosineAnnealingLR", T_max=30, eta_min=1e-4, by_epoch=True, convert_to_iter_based=True)
]
