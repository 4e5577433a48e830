# The paper's clips: 16 frames spread over the video, 224x224 (84x84 for the policy's backbone), 72 a step.
# DATA_ROOT is the folder that tools/data/<benchmark>/convert.py wrote; MEDIA=rawframes reads extracted frames.
media = "{{$MEDIA:videos}}"
# Which frames are taken (docs/videos.md): SAMPLING=exact those of the paper, the default the nearest key frames.
sampling = "{{$SAMPLING:keyframe}}"
num_frames = 16
batch_size = 72
resize_side = 256
frame_size = 224
policy_size = 84

data_preprocessor = dict(
    type="ActionDataPreprocessor",
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    format_shape="NCHW",
)

if media == "videos":
    begin, decode = [dict(type="VideoInit")], dict(type="VideoDecode", sampling=sampling)
    dataset = dict(type="CheckedVideoDataset", data_prefix=dict(video="videos"))
elif media == "rawframes":
    begin, decode = [], dict(type="RawFrameDecode")
    dataset = dict(type="CheckedRawframeDataset", data_prefix=dict(img="rawframes"))
else:
    raise ValueError(f"MEDIA={media} must be videos or rawframes")
ending = "" if media == "videos" else "_rawframes"  # of the lists' names

pack = [
    dict(type="FormatShape", input_format="NCHW"),
    dict(type="PackActionInputs", meta_keys=("img_shape", "filename", "frame_inds")),
]
small = dict(type="Resize", scale=(policy_size, policy_size), keep_ratio=False)
sample = dict(type="SampleFrames", clip_len=1, frame_interval=1, num_clips=num_frames)
resize = dict(type="Resize", scale=(-1, resize_side))

augmented = [
    *begin,
    dict(sample, keep_tail_frames=True),
    decode,
    resize,
    dict(type="MultiScaleCrop", input_size=frame_size, scales=(1, 0.875, 0.75, 0.66)),
    dict(type="Resize", scale=(frame_size, frame_size), keep_ratio=False),
    dict(type="Flip", flip_ratio=0.5),
]
centred = [
    *begin,
    dict(sample, test_mode=True),
    decode,
    resize,
    dict(type="CenterCrop", crop_size=frame_size),
]
train_pipeline = [*augmented, *pack]
test_pipeline = [*centred, *pack]
policy_train_pipeline = [*augmented, small, *pack]
policy_test_pipeline = [*centred, small, *pack]
# 2 clips x 3 crops; each is one view of num_frames frames
views_pipeline = [
    *begin,
    dict(sample, test_mode=True, twice_sample=True),
    decode,
    resize,
    dict(type="ThreeCrop", crop_size=resize_side),
    *pack,
]

loader = dict(num_workers=8, persistent_workers=True)
train_dataloader = dict(
    **loader,
    batch_size=batch_size,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(**dataset, pipeline=train_pipeline),
)
val_dataloader = dict(
    **loader,
    batch_size=16,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**dataset, pipeline=test_pipeline, test_mode=True),
)
test_dataloader = val_dataloader
auto_scale_lr = dict(enable=False, base_batch_size=batch_size)
del begin, decode, dataset, pack, small, sample, resize, augmented, centred, loader
