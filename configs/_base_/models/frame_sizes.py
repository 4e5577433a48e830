# 8 bits at three sizes of the frame, whose own is 224: on CPUs with int8 kernels time follows the size.
modes = [dict(bits=8), dict(bits=8, size=160), dict(bits=8, size=112)]
