# Mini-Kinetics, stage 2: 8 bits at three frame sizes, on the centred nested grid.
_base_ = ["./any_precision_r50_16f_mini_kinetics.py", "../_base_/models/frame_sizes.py"]
model = dict(backbone=dict(precisions={{_base_.modes}}, weight=dict(type="nested")))
