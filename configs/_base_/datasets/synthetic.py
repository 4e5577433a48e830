"""Synthetic clips (tools/data/make_synthetic.py); DATA_ROOT is the folder they were generated in.

Frames lie in [0, 1], the range in which the frame itself may be quantized. No augmentation: a flip would turn
one class into another, and each clip is decoded once and then kept. Resize and crop leave these clips as they are:
they make the bundle take videos of every size.
"""

data_root = "{{$DATA_ROOT:work_dirs/demo/data}}"
dataset_type = "CheckedVideoDataset"
num_classes = 8
num_frames = 6
frame_size = 64

data_preprocessor = dict(
    type="ActionDataPreprocessor", mean=[0.0, 0.0, 0.0], std=[255.0, 255.0, 255.0], format_shape="NCHW"
)

train_pipeline = [
    dict(type="VideoInit"),
    dict(type="SampleFrames", clip_len=1, frame_interval=1, num_clips=num_frames, test_mode=True),
    dict(type="VideoDecode", sampling="nearby"),
    dict(type="FormatShape", input_format="NCHW"),
    dict(type="PackActionInputs", meta_keys=("img_shape", "filename", "frame_inds")),
]
test_pipeline = [
    *train_pipeline[:-2],
    dict(type="Resize", scale=(-1, frame_size)),
    dict(type="CenterCrop", crop_size=frame_size),
    *train_pipeline[-2:],
]

dataset = dict(
    type=dataset_type,
    data_root=data_root,
    data_prefix=dict(video="videos"),
    metainfo=dict(classes=[f"{22.5 * k:g} degrees" for k in range(num_classes)]),
    num_classes=num_classes,
    keep_in_memory=True,
)
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(**dataset, ann_file="train.txt", pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**dataset, ann_file="val.txt", pipeline=test_pipeline, test_mode=True),
)
test_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**dataset, ann_file="test.txt", pipeline=test_pipeline, test_mode=True),
)
del dataset

val_evaluator = dict(
    type="AccMetric", metric_list=("top_k_accuracy",), metric_options=dict(top_k_accuracy=dict(topk=(1,)))
)
test_evaluator = val_evaluator
