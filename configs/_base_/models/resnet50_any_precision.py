# ResNet-50 at every precision in each step, taught by the float network; both begin from it (load_from,
# model.teacher.checkpoint).
_base_ = ["./resnet50_float.py", "./any_precision.py"]
net = dict(_base_.model.backbone, pretrained=None)
model = dict(
    _delete_=True,
    type="AnyPrecisionRecognizer",
    backbone=dict(**_base_.quantized, backbone=net),
    cls_head=_base_.model.cls_head,
    distill=dict(type="DistillationLoss"),
    teacher=dict(_base_.model, backbone=net, checkpoint=None),
)
del net
