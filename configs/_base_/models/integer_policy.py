# For a policy in integers: at_8_bits goes around its backbone, with the input_range of normalized frames. tiny_policy
# is one for CPUs, of frames in [-1, 1]; its network begins from random weights (policy_backbone/folder-tiny_*).
# sparing_losses ask for no balance: where few frames are needed, usage is not to be uniform.
at_8_bits = dict(type="AnyPrecisionBackbone", precisions=(8,), weight=dict(type="nested"), quantize_stem=True)
tiny_net = dict(type="SlimResNet", base_channels=16, stage_blocks=(1, 1, 1, 1))
tiny_policy = dict(
    type="PrecisionPolicy",
    input_size=64,
    backbone=dict(at_8_bits, backbone=tiny_net, input_range=(-1.0, 1.0)),
    head=dict(type="PolicyHead", in_channels=128, hidden=128, dropout_ratio=0.5),
)
sparing_losses = dict(
    efficiency=dict(type="EfficiencyLoss", weight=0.3),
    entropy=dict(type="PolicyEntropyLoss", weight=0.05),
)
