# Demo, stage 3, for a policy in integers: as demo_policy_backbone.py, at 8 bits.
_base_ = ["./demo_policy_backbone.py", "../_base_/models/integer_policy.py"]
model = dict(
    _delete_=True,
    type="AnyPrecisionRecognizer",
    backbone=dict(**_base_.at_8_bits, backbone=_base_.model.backbone, input_range=(0.0, 1.0)),
    cls_head=_base_.model.cls_head,
    data_preprocessor=_base_.data_preprocessor,
)
