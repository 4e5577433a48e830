# MMAction2's 2D recognizer (TSN) with ResNet-50, from ImageNet weights.
model = dict(
    type="Recognizer2D",
    backbone=dict(type="ResNet", depth=50, pretrained="torchvision://resnet50"),
    cls_head=dict(
        type="TSNHead",
        num_classes=400,
        in_channels=2048,
        dropout_ratio=0.5,
        average_clips="prob",
        topk=(1, 5),
    ),
)
