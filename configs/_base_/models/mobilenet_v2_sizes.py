# MobileNetV2 at 8 bits on frames of 224, 160 and 96 pixels: a second base beside mobilenet_v2_any_precision.py or
# mobilenet_v2_videoiq.py. The frame and the first convolution are quantized too.
modes = [dict(bits=8), dict(bits=8, size=160), dict(bits=8, size=96)]
at_sizes = dict(precisions=modes, quantize_stem=True, input_range=(-1.0, 1.0))
sizes_and_skip = dict(actions=[*modes, dict(skip=1)], frame_size=224)
