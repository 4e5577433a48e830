# ActivityNet-v1.3, stage 2: ResNet-50 with temporal shift (TSM) at all precisions.
# There is no stage 4: neighbouring frames exchange features, so that they need one precision.
_base_ = ["./any_precision_r50_16f_activitynet.py"]
net = dict(type="ResNetTSM", num_segments={{_base_.num_frames}})
head = dict(type="TSMHead", num_segments={{_base_.num_frames}})
model = dict(backbone=dict(backbone=net), cls_head=head, teacher=dict(backbone=net, cls_head=head))
del net, head
