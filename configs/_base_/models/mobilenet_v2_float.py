# MMAction2's 2D recognizer with MobileNetV2. MOBILENET_V2_WEIGHTS names ImageNet weights in MMAction2's layout
# (input (x - 127.5) / 127.5).
weights = "{{$MOBILENET_V2_WEIGHTS:weights/mobilenet_v2_imagenet_mmcv.pth}}"

model = dict(
    type="Recognizer2D",
    backbone=dict(type="MobileNetV2", pretrained=weights),
    cls_head=dict(
        type="TSNHead", num_classes=400, in_channels=1280, dropout_ratio=0.5, average_clips="prob", topk=(1,)
    ),
)
