# Small networks on small clips: Adam with one cosine; set max_epochs and T_max together.
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=15, val_begin=1, val_interval=5)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(optimizer=dict(type="Adam", lr=3e-3))
param_scheduler = [
    dict(type="CosineAnnealingLR", T_max=15, eta_min=1e-4, by_epoch=True, convert_to_iter_based=True)
]
