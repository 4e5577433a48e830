# Demo, stage 3: the policy's light backbone as a recognizer of its own, at the policy's input size.
_base_ = ["../float/demo_float.py"]

model = dict(
    backbone=dict(base_channels=6),
    cls_head=dict(in_channels=12),
)

pipeline = [
    dict(type="DecordInit"),
    dict(type="SampleFrames", clip_len=1, frame_interval=1, num_clips=6, test_mode=True),
    dict(type="DecordDecode"),
    dict(type="Resize", scale=(20, 20), keep_ratio=False),
    dict(type="FormatShape", input_format="NCHW"),
    dict(type="PackActionInputs", meta_keys=("img_shape", "filename", "frame_inds")),
]
train_dataloader = dict(dataset=dict(pipeline=pipeline))
val_dataloader = dict(dataset=dict(pipeline=pipeline))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
