# The paper's recognizer stages: SGD 0.9, cosine, weight decay 5e-4, 100 epochs, lr 0.01 at 72 clips a step.
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=100, val_begin=1, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=5e-4))
param_scheduler = [
    dict(type="CosineAnnealingLR", T_max=100, eta_min=0, by_epoch=True, convert_to_iter_based=True)
]
