# DATA_ROOT=... python tools/compare.py configs/baselines/r50_16f_activitynet_compare.py
#
# The baselines beside VideoIQ on ActivityNet-v1.3 with ResNet-50. TRAINED is the folder of
# configs/videoiq/videoiq_r50_16f_activitynet_recipe.py; the LSTM has a training of its own:
# python tools/train.py configs/baselines/lstm_r50_16f_activitynet.py --work-dir work_dirs/activitynet_lstm \
#     --cfg-options load_from=<the float checkpoint>
name = "activitynet_r50"
metric = "acc/mean_average_precision"

trained = "{{$TRAINED:work_dirs/activitynet_r50}}"
policy = dict(config="../videoiq/videoiq_r50_16f_activitynet.py", checkpoint=f"{trained}/policy/seed0")
of_float = dict(checkpoint=f"{trained}/float")
of_any = dict(checkpoint=f"{trained}/any_precision")
rows = [
    dict(of_float, name="float", config="uniform_r50_16f_activitynet.py"),
    dict(
        name="lstm", config="lstm_r50_16f_activitynet.py", checkpoint="{{$LSTM:work_dirs/activitynet_lstm}}"
    ),
    dict(
        of_float,
        name="early exit",
        config="early_exit_r50_16f_activitynet.py",
        threshold=[0.3, 0.5, 0.7, 0.9, 0.99],
    ),
    dict(of_any, name="ensemble", config="ensemble_r50_16f_activitynet.py"),
    *[
        dict(of_any, name=f"fixed-{bits}", config="fixed_r50_16f_activitynet.py", precision=bits)
        for bits in (32, 4, 2)
    ],
    dict(policy, name="random", usage_of="videoiq", draws=2),
    dict(policy, name="videoiq"),
]
del trained, policy, of_float, of_any
