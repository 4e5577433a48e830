"""Scenes: 18 sources of surveillance video, 99 + 64 clips (fight-detection-surv-dataset, Akti et al. 2019).

DATA_ROOT is the folder that holds the lists and videos/. Small copies (tools/data/shrink_videos.py) decode
some six times faster.
"""

data_root = "{{$DATA_ROOT:data/fights}}"
dataset_type = "CheckedVideoDataset"
num_classes = 18
classes = [f"scene {k}" for k in range(num_classes)]
num_frames = 8
resize_side = 128
frame_size = 112

data_preprocessor = dict(
    type="ActionDataPreprocessor", mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5], format_shape="NCHW"
)

pack = [
    dict(type="FormatShape", input_format="NCHW"),
    dict(type="PackActionInputs", meta_keys=("img_shape", "filename", "frame_inds")),
]
train_pipeline = [
    dict(type="DecordInit"),
    # keep_tail_frames: else the host never trains on a short clip's tail, and loops very short clips
    dict(type="SampleFrames", clip_len=1, frame_interval=1, num_clips=num_frames, keep_tail_frames=True),
    dict(type="DecordDecode"),
    dict(type="Resize", scale=(-1, resize_side)),
    dict(type="MultiScaleCrop", input_size=frame_size, scales=(1, 0.875, 0.75, 0.66)),
    dict(type="Resize", scale=(frame_size, frame_size), keep_ratio=False),
    dict(type="Flip", flip_ratio=0.5),
    *pack,
]
test_pipeline = [
    dict(type="DecordInit"),
    dict(type="SampleFrames", clip_len=1, frame_interval=1, num_clips=num_frames, test_mode=True),
    dict(type="DecordDecode"),
    dict(type="Resize", scale=(-1, resize_side)),
    dict(type="CenterCrop", crop_size=frame_size),
    *pack,
]

dataset = dict(
    type=dataset_type,
    data_root=data_root,
    data_prefix=dict(video="videos"),
    metainfo=dict(classes=classes),
    num_classes=num_classes,
)
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(**dataset, ann_file="scenes_train.txt", pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**dataset, ann_file="scenes_val.txt", pipeline=test_pipeline, test_mode=True),
)
test_dataloader = val_dataloader
del dataset, pack

val_evaluator = dict(
    type="AccMetric",
    metric_list=("top_k_accuracy", "mean_class_accuracy"),
    metric_options=dict(top_k_accuracy=dict(topk=(1, 5))),
)
test_evaluator = val_evaluator
