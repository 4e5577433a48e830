# The demo's network at 32, 4 and 2 bits, the frame itself quantized too. Begins from the float one (load_from); each
# lower precision learns from the next higher one.
_base_ = ["./slim_resnet_float.py"]
model = dict(
    _delete_=True,
    type="AnyPrecisionRecognizer",
    backbone=dict(
        type="AnyPrecisionBackbone",
        backbone={{_base_.model.backbone}},
        precisions=(32, 4, 2),
        quantize_stem=True,
        input_range=(0.0, 1.0),
    ),
    cls_head={{_base_.model.cls_head}},
)
