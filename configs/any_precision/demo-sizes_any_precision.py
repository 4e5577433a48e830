# Demo, stage 2, at two frame sizes: each precision also reads frames of 28 pixels; all modes learn from the highest.
_base_ = ["./demo_any_precision.py"]
modes = [dict(bits=bits, **size) for bits in (32, 4, 2) for size in ({}, dict(size=28))]
model = dict(backbone=dict(precisions=modes))
