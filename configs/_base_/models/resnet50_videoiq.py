# VideoIQ over the frozen any-precision ResNet-50 (load_from), taught by the float network (model.teacher.checkpoint).
_base_ = ["./resnet50_float.py", "./videoiq.py"]
net = dict(_base_.model.backbone, pretrained=None)
head = {key: _base_.model.cls_head[key] for key in ("num_classes", "in_channels", "dropout_ratio", "topk")}
model = dict(
    _delete_=True,
    **_base_.videoiq,
    backbone=dict(**_base_.quantized, backbone=net),
    cls_head=dict(type="FrameAverageHead", **head),
    teacher=dict(_base_.model, backbone=net, checkpoint=None),
)
del net, head
