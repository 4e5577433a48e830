# Your own videos: DATA_ROOT/<class>/*.mp4, with the lists of tools/data/make_lists.py.
# The number of classes is read from DATA_ROOT/classes.txt.
_base_ = ["./clips.py"]

data_root = "{{$DATA_ROOT:data/videos}}"
try:
    classes = open(f"{data_root}/classes.txt", encoding="utf-8").read().splitlines()
except OSError:  # the dataset reports what is missing
    classes = ["0", "1"]
num_classes = len(classes)
source = dict(
    data_root=data_root,
    data_prefix=dict(video=""),
    metainfo=dict(classes=classes),
    num_classes=num_classes,
)
train_dataloader = dict(dataset=dict(**source, ann_file="train.txt"))
val_dataloader = dict(dataset=dict(**source, ann_file="val.txt"))
test_dataloader = val_dataloader
del source
