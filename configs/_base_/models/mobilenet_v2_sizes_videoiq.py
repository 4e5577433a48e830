# As mobilenet_v2_videoiq.py, 8 bits at one of three frame sizes, or skip; the tiny policy. The features of a clip are
# computed once, for all policies over the same network.
_base_ = ["./mobilenet_v2_videoiq.py", "./mobilenet_v2_sizes.py", "./integer_policy.py"]
model = dict(
    backbone=_base_.at_sizes,
    policy=dict(_delete_=True, **_base_.tiny_policy),
    actions=dict(_delete_=True, **_base_.sizes_and_skip),
    losses=_base_.sparing_losses,
    cache_features=True,
)
cost_metric = dict(actions=dict(_delete_=True, **_base_.sizes_and_skip))
custom_hooks = [*_base_.custom_hooks, dict(type="FeatureCacheHook", path="work_dirs/features.safetensors")]
