# As adamw_25e.py, shorter and with a third of its rate: for what begins from a trained network.
_base_ = ["./adamw_25e.py"]
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_epochs=10)
param_scheduler = [
    dict(type="CosineAnnealingLR", T_max=10, eta_min=0, by_epoch=True, convert_to_iter_based=True)
]
