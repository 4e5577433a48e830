# Real clips, small enough for a CPU: 8 frames per video of 112x112 (84x84 for the policy's backbone as a
# recognizer); the recognizers train on 4, which sees more videos per minute. The lists are set in scenes.py,
# fights.py and folder.py. Small copies of the videos decode some six times faster (tools/data/shrink_videos.py).
# Which frames are taken (docs/videos.md): SAMPLING is exact, nearby or keyframe.
sampling = "{{$SAMPLING:nearby}}"
num_frames = 8
num_train_frames = 4
resize_side = 128
frame_size = 112
policy_size = 84

data_preprocessor = dict(
    type="ActionDataPreprocessor", mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5], format_shape="NCHW"
)

pack = [
    dict(type="FormatShape", input_format="NCHW"),
    dict(type="PackActionInputs", meta_keys=("img_shape", "filename", "frame_inds")),
]
train_pipeline = [
    dict(type="VideoInit"),
    # keep_tail_frames: otherwise MMAction2 never trains on a short clip's tail, and loops very short clips
    dict(
        type="SampleFrames", clip_len=1, frame_interval=1, num_clips=num_train_frames, keep_tail_frames=True
    ),
    dict(type="VideoDecode", sampling=sampling),
    dict(type="Resize", scale=(-1, resize_side)),
    dict(type="MultiScaleCrop", input_size=frame_size, scales=(1, 0.875, 0.75, 0.66)),
    dict(type="Resize", scale=(frame_size, frame_size), keep_ratio=False),
    dict(type="Flip", flip_ratio=0.5),
    *pack,
]
test_pipeline = [
    dict(type="VideoInit"),
    dict(type="SampleFrames", clip_len=1, frame_interval=1, num_clips=num_frames, test_mode=True),
    dict(type="VideoDecode", sampling=sampling),
    dict(type="Resize", scale=(-1, resize_side)),
    dict(type="CenterCrop", crop_size=frame_size),
    *pack,
]

small = dict(type="Resize", scale=(policy_size, policy_size), keep_ratio=False)
policy_train_pipeline = [*train_pipeline[: -len(pack)], small, *pack]
policy_test_pipeline = [*test_pipeline[: -len(pack)], small, *pack]

train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(type="CheckedVideoDataset", pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="CheckedVideoDataset", pipeline=test_pipeline, test_mode=True),
)
test_dataloader = val_dataloader
del pack, small

val_evaluator = dict(
    type="AccMetric",
    metric_list=("top_k_accuracy", "mean_class_accuracy"),
    metric_options=dict(top_k_accuracy=dict(topk=(1,))),
)
test_evaluator = val_evaluator
