# FCVID: 239 categories of web videos; a clip may have several. See tools/data/fcvid.
_base_ = ["./benchmark.py"]

data_root = "{{$DATA_ROOT:data/fcvid}}"
num_classes = 239
source = dict(
    data_root=data_root,
    metainfo=dict(classes=f"{data_root}/classes.txt"),
    num_classes=num_classes,
    multi_class=True,
)
train_dataloader = dict(dataset=dict(**source, ann_file=f"train{_base_.ending}.txt"))
val_dataloader = dict(dataset=dict(**source, ann_file=f"val{_base_.ending}.txt"))
test_dataloader = val_dataloader
del source

# average precision of each class over all labels of the clips, then the mean
val_evaluator = dict(type="AccMetric", metric_list=("mean_average_precision",))
test_evaluator = val_evaluator
