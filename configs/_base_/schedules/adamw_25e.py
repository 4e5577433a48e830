# Fine-tuning on hundreds of clips: AdamW with one cosine, the pretrained backbone at a twentieth of the rate
# of the new layers, activation clips without weight decay. Set max_epochs and T_max together.
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=25, val_begin=1, val_interval=5)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=3e-3, weight_decay=1e-2),
    clip_grad=dict(max_norm=20),
    # the longest key that matches a parameter's name decides
    paramwise_cfg=dict(
        custom_keys={"quantizer.clip.": dict(lr_mult=1.0, decay_mult=0.0), "backbone": dict(lr_mult=0.05)}
    ),
)
param_scheduler = [
    dict(type="CosineAnnealingLR", T_max=25, eta_min=0, by_epoch=True, convert_to_iter_based=True)
]
