# Mini-Kinetics: 200 classes of Kinetics-400, one a clip. See tools/data/mini_kinetics.
_base_ = ["./benchmark.py"]

data_root = "{{$DATA_ROOT:data/mini_kinetics}}"
num_classes = 200
source = dict(
    data_root=data_root,
    metainfo=dict(classes=f"{data_root}/classes.txt"),
    num_classes=num_classes,
)
if _base_.media == "videos":  # names hold spaces
    source["delimiter"] = ";"
train_dataloader = dict(dataset=dict(**source, ann_file=f"train{_base_.ending}.txt"))
val_dataloader = dict(dataset=dict(**source, ann_file=f"val{_base_.ending}.txt"))
test_dataloader = val_dataloader
del source

val_evaluator = dict(
    type="AccMetric",
    metric_list=("top_k_accuracy", "mean_class_accuracy"),
    metric_options=dict(top_k_accuracy=dict(topk=(1, 5))),
)
test_evaluator = val_evaluator
