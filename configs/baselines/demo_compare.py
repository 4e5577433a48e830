# python tools/compare.py configs/baselines/demo_compare.py
#
# The demo's checkpoints (make demo; DEMO is its folder) beside the baselines. The LSTM has a training of its own:
# python tools/train.py configs/baselines/demo_lstm.py --work-dir work_dirs/demo_lstm \
#     --cfg-options load_from=work_dirs/demo/float/epoch_15.pth
name = "demo"

demo = "{{$DEMO:work_dirs/demo}}"
lstm = "{{$DEMO_LSTM:work_dirs/demo_lstm}}"
seeds = [0, 1, 2]
policy = dict(
    config="../videoiq/demo_videoiq.py",
    checkpoint=[f"{demo}/policy/seed{seed}" for seed in seeds],
    bundle=f"{demo}/bundle",
)
fixed = dict(policy, checkpoint=policy["checkpoint"][0])
of_float = dict(checkpoint=f"{demo}/float")
rows = [
    dict(of_float, name="float", config="demo_uniform.py"),
    dict(name="lstm", config="demo_lstm.py", checkpoint=lstm),
    dict(of_float, name="early exit", config="demo_early_exit.py", threshold=[0.3, 0.5, 0.7, 0.9, 0.99]),
    dict(name="ensemble", config="demo_ensemble.py", checkpoint=f"{demo}/any_precision"),
    dict(fixed, name="fixed-32", precision=32),
    dict(fixed, name="fixed-4", precision=4),
    dict(fixed, name="fixed-2", precision=2),
    dict(policy, name="random", usage_of="videoiq", draws=2),
    dict(policy, name="videoiq"),
]
del demo, lstm, seeds, policy, fixed, of_float
