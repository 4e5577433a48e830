# The paper's policy stage: 50 epochs, lr 0.01 for the LSTM and the heads, 0.001 for the policy's backbone.
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=50, val_begin=1, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(
    optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=5e-4),
    paramwise_cfg=dict(custom_keys={"policy.backbone": dict(lr_mult=0.1)}),
)
param_scheduler = [
    dict(type="CosineAnnealingLR", T_max=50, eta_min=0, by_epoch=True, convert_to_iter_based=True)
]
auto_scale_lr = dict(enable=False, base_batch_size=72)
custom_hooks = [dict(type="GumbelTemperatureHook", initial=5.0, decay=0.956)]
