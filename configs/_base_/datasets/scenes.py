# Scenes: 18 sources of surveillance video, 99 + 64 clips (fight-detection-surv-dataset, Akti et al. 2019).
# DATA_ROOT is the folder that holds the lists and videos/.
_base_ = ["./clips.py"]

data_root = "{{$DATA_ROOT:data/fights}}"
num_classes = 18
classes = [f"scene {k}" for k in range(num_classes)]
source = dict(
    data_root=data_root,
    data_prefix=dict(video="videos"),
    metainfo=dict(classes=classes),
    num_classes=num_classes,
)
train_dataloader = dict(dataset=dict(**source, ann_file="scenes_train.txt"))
val_dataloader = dict(dataset=dict(**source, ann_file="scenes_val.txt"))
test_dataloader = val_dataloader
del source
