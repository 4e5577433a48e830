# Mini-Sports1M, stage 3: the policy's MobileNetV2 as a recognizer at the policy's input size.
_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/mini_sports1m.py",
    "../_base_/models/mobilenet_v2_policy_backbone.py",
    "../_base_/schedules/sgd_100e.py",
]
model = dict(
    cls_head=dict(num_classes={{_base_.num_classes}}), data_preprocessor={{_base_.data_preprocessor}}
)
train_dataloader = dict(dataset=dict(pipeline={{_base_.policy_train_pipeline}}))
val_dataloader = dict(dataset=dict(pipeline={{_base_.policy_test_pipeline}}))
test_dataloader = val_dataloader
