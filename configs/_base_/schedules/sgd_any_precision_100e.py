# As sgd_100e.py; the learned activation clips have rates of their own, the paper's: lr 0.1 above 2 bits, lr 0.01 and
# weight decay 6e-2 at 2 bits (clips end with their precision; 32 bits have none here).
_base_ = ["./sgd_100e.py"]
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            "quantizer.clip.": dict(lr_mult=10, decay_mult=1),
            "quantizer.clip.2": dict(lr_mult=1, decay_mult=120),
        }
    )
)
