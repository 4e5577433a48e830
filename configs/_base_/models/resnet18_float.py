# As resnet50_float.py, with ResNet-18.
_base_ = ["./resnet50_float.py"]
model = dict(backbone=dict(depth=18, pretrained="torchvision://resnet18"), cls_head=dict(in_channels=512))
