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

sampling = "{{$SAMPLING:nearby}}"  # trimmed to 10 seconds, in which key frames are few


def sampled(pipeline):
    return [dict(step, sampling=sampling) if step["type"] == "VideoDecode" else step for step in pipeline]


train_pipeline, test_pipeline = sampled(_base_.train_pipeline), sampled(_base_.test_pipeline)
policy_train_pipeline = sampled(_base_.policy_train_pipeline)
policy_test_pipeline = sampled(_base_.policy_test_pipeline)
views_pipeline = sampled(_base_.views_pipeline)
train_dataloader = dict(dataset=dict(**source, ann_file=f"train{_base_.ending}.txt", pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**source, ann_file=f"val{_base_.ending}.txt", pipeline=test_pipeline))
test_dataloader = val_dataloader
del source, sampled

val_evaluator = dict(
    type="AccMetric",
    metric_list=("top_k_accuracy", "mean_class_accuracy"),
    metric_options=dict(top_k_accuracy=dict(topk=(1, 5))),
)
test_evaluator = val_evaluator
