# Folder, stage 2: 8 bits at three frame sizes; all learn from the highest.
_base_ = ["./folder_any_precision.py"]
modes = [dict(bits=8), dict(bits=8, size=80), dict(bits=8, size=64)]
model = dict(backbone=dict(precisions=modes))
