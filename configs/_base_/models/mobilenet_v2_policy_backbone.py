# The policy's MobileNetV2 as a recognizer, from ImageNet weights in MMAction2's layout.
_base_ = ["./mobilenet_v2_float.py"]
weights = "mmcls://mobilenet_v2"
model = dict(backbone=dict(pretrained=weights))
