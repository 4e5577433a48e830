# The paper's policy stage: 50 epochs, lr 0.01 for the LSTM and the heads, 0.001 for the policy's backbone. The clips'
# rates count in joint training only.
_base_ = ["./sgd_any_precision_100e.py"]
train_cfg = dict(max_epochs=50)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={"policy.backbone": dict(lr_mult=0.1)}))
param_scheduler = [
    dict(type="CosineAnnealingLR", T_max=50, eta_min=0, by_epoch=True, convert_to_iter_based=True)
]
custom_hooks = [dict(type="GumbelTemperatureHook", initial=5.0, decay=0.956)]
