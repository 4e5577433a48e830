# DATA_ROOT=data/fights MOBILENET_V2_WEIGHTS=... python tools/compare.py configs/baselines/scenes_compare.py
#
# The baselines beside VideoIQ on the scenes. TRAINED is the folder of configs/videoiq/scenes_recipe.py.
name = "scenes"

trained = "{{$TRAINED:work_dirs/scenes}}"
policy = dict(
    config="../videoiq/scenes_videoiq.py", checkpoint=[f"{trained}/policy/seed{seed}" for seed in range(3)]
)
of_float = dict(checkpoint=f"{trained}/float")
of_any = dict(checkpoint=f"{trained}/any_precision")
rows = [
    dict(of_float, name="float", config="scenes_uniform.py"),
    dict(of_float, name="early exit", config="scenes_early_exit.py", threshold=[0.3, 0.5, 0.7, 0.9, 0.99]),
    dict(of_any, name="ensemble", config="scenes_ensemble.py"),
    *[dict(of_any, name=f"fixed-{bits}", config="scenes_fixed.py", precision=bits) for bits in (32, 8, 4)],
    dict(policy, name="random", usage_of="videoiq", draws=2),
    dict(policy, name="videoiq"),
]
del trained, policy, of_float, of_any
