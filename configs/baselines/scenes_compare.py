# DATA_ROOT=data/fights MOBILENET_V2_WEIGHTS=... python tools/compare.py configs/baselines/scenes_compare.py
#
# The baselines beside VideoIQ on the scenes. TRAINED is the folder of configs/videoiq/scenes_recipe.py, BUNDLE the
# first seed's bundle (tools/export.py), without which no milliseconds are measured but those of PyTorch.
name = "scenes"

trained = "{{$TRAINED:work_dirs/scenes}}"
bundle = "{{$BUNDLE:none}}"
policy = dict(
    config="../videoiq/scenes_videoiq.py",
    checkpoint=[f"{trained}/policy/seed{seed}" for seed in range(3)],
    bundle=bundle if bundle != "none" else None,
)
first = dict(policy, checkpoint=policy["checkpoint"][0])
of_float = dict(config="scenes_uniform.py", checkpoint=f"{trained}/float")
rows = [
    dict(of_float, name="float"),
    dict(of_float, name="early exit", config="scenes_early_exit.py", threshold=[0.3, 0.5, 0.7, 0.9, 0.99]),
    dict(of_float, name="static INT8", static_int8=dict(size=[224, 160])),
    dict(of_float, name="static INT8, fewer frames", static_int8=dict(size=224, frames=[4, 2])),
    dict(name="ensemble", config="scenes_ensemble.py", checkpoint=f"{trained}/any_precision"),
    *[dict(first, name=f"fixed-{bits}", precision=bits) for bits in (32, 8, 4)],
    dict(first, name="fewer frames", frames=dict(mode=8, count=[4, 2, 1])),
    dict(first, name="frame difference", difference=dict(mode=8, processed=[0.75, 0.5, 0.25])),
    dict(policy, name="random", usage_of="videoiq", draws=2),
    dict(policy, name="videoiq", multiplier=[-4, -1, 1, 4]),
    dict(policy, name="videoiq"),
    dict(policy, name="oracle", oracle=True),
]
del trained, bundle, policy, first, of_float
