# python tools/compare.py configs/baselines/demo_compare.py
#
# The demo's checkpoints (make demo; DEMO is its folder) beside the baselines. The LSTM, whose row is there where
# DEMO_LSTM names its folder, has a training of its own:
# python tools/train.py configs/baselines/demo_lstm.py --work-dir work_dirs/demo_lstm \
#     --cfg-options load_from=work_dirs/demo/float/epoch_8.pth
name = "demo"
threads = 1

demo = "{{$DEMO:work_dirs/demo}}"
lstm = "{{$DEMO_LSTM:none}}"
kinds = f"{demo}/data"
seeds = [0, 1, 2]
policy = dict(
    config="../videoiq/demo_videoiq.py",
    checkpoint=[f"{demo}/policy/seed{seed}" for seed in seeds],
    bundle=f"{demo}/bundle",
)
first = dict(policy, checkpoint=policy["checkpoint"][0])
of_float = dict(config="demo_uniform.py", checkpoint=f"{demo}/float")
rows = [
    dict(of_float, name="float"),
    *([dict(name="lstm", config="demo_lstm.py", checkpoint=lstm)] if lstm != "none" else []),
    dict(of_float, name="early exit", config="demo_early_exit.py", threshold=[0.3, 0.5, 0.7, 0.9, 0.99]),
    dict(of_float, name="static INT8", static_int8=dict(size=[64, 48])),
    dict(of_float, name="static INT8, fewer frames", static_int8=dict(size=64, frames=[3, 2])),
    dict(name="ensemble", config="demo_ensemble.py", checkpoint=f"{demo}/any_precision"),
    dict(first, name="fixed-32", precision=32),
    dict(first, name="fixed-4", precision=4),
    dict(first, name="fixed-2", precision=2),
    dict(first, name="fewer frames", frames=dict(mode=32, count=[3, 2, 1])),
    dict(first, name="frame difference", difference=dict(mode=32, processed=[0.75, 0.5, 0.25])),
    dict(policy, name="random", usage_of="videoiq", draws=2),
    dict(policy, name="videoiq", multiplier=[-4, -1, 1, 4]),
    dict(policy, name="videoiq"),
    dict(policy, name="oracle", oracle=True),
]
del demo, lstm, seeds, policy, first, of_float
