# The paper's any-precision network: 32, 4 and 2 bits, DoReFa weights, PACT activations with clips that begin at 2.
precisions = (32, 4, 2)
quantized = dict(
    type="AnyPrecisionBackbone",
    precisions=precisions,
    weight=dict(type="dorefa"),
    activation=dict(type="pact", init_clip=2.0),
)
