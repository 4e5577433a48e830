# Gestures: 13 body signals in clips of 16 frames that tools/data/gestures composes from photos; made by the recipe.
# DATA_ROOT is the folder of the lists; test_room_b.txt holds clips whose frames are all from one room.
# Nothing is flipped: left is not right. The float and the any-precision network train on random subsets
# (random_frames) of 4 frames, so that they know averages of few frames, which is what a policy leaves.
sampling = "{{$SAMPLING:nearby}}"
data_root = "{{$DATA_ROOT:work_dirs/gestures/data}}"
classes = (
    """closer down emergency follow further land left photo right take_off up video video_pause""".split()
)
num_classes = len(classes)
num_frames = 16
num_train_frames = 4
frame_size = 224
policy_size = 64

data_preprocessor = dict(
    type="ActionDataPreprocessor", mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5], format_shape="NCHW"
)
random_frames = dict(data_preprocessor, type="RandomFramesPreprocessor")

pack = [
    dict(type="FormatShape", input_format="NCHW"),
    dict(type="PackActionInputs", meta_keys=("img_shape", "filename", "frame_inds")),
]
train_pipeline = [
    dict(type="VideoInit"),
    dict(type="SampleFrames", clip_len=1, frame_interval=1, num_clips=num_train_frames),
    dict(type="VideoDecode", sampling=sampling),
    dict(type="Resize", scale=(-1, 240)),
    dict(type="MultiScaleCrop", input_size=frame_size, scales=(1, 0.9)),
    dict(type="Resize", scale=(frame_size, frame_size), keep_ratio=False),
    *pack,
]
test_pipeline = [
    dict(type="VideoInit"),
    dict(type="SampleFrames", clip_len=1, frame_interval=1, num_clips=num_frames, test_mode=True),
    dict(type="VideoDecode", sampling=sampling),
    dict(type="Resize", scale=(-1, 240)),
    dict(type="CenterCrop", crop_size=frame_size),
    *pack,
]
small = dict(type="Resize", scale=(policy_size, policy_size), keep_ratio=False)
policy_train_pipeline = [*train_pipeline[: -len(pack)], small, *pack]
policy_test_pipeline = [*test_pipeline[: -len(pack)], small, *pack]

source = dict(
    type="CheckedVideoDataset",
    data_root=data_root,
    data_prefix=dict(video="videos"),
    metainfo=dict(classes=classes),
    num_classes=num_classes,
)
train_dataloader = dict(
    batch_size=16,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(**source, ann_file="train.txt", pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**source, ann_file="val.txt", pipeline=test_pipeline, test_mode=True),
)
test_dataloader = dict(val_dataloader, dataset=dict(val_dataloader["dataset"], ann_file="test.txt"))
del pack, small, source

val_evaluator = dict(
    type="AccMetric",
    metric_list=("top_k_accuracy", "mean_class_accuracy"),
    metric_options=dict(top_k_accuracy=dict(topk=(1,))),
)
test_evaluator = val_evaluator
