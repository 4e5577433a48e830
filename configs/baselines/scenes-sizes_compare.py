# DATA_ROOT=data/fights MOBILENET_V2_WEIGHTS=... python tools/compare.py configs/baselines/scenes-sizes_compare.py
#
# As scenes_compare.py, beside the policy over frame sizes. TRAINED is the folder of
# configs/videoiq/scenes-sizes_recipe.py, BUNDLE the first seed's bundle (mmvideoiq export). ONE_SIZE and WITHOUT_SKIP
# are those of policies with fewer actions, scenes-sizes-*_videoiq.py; their rows are there where they are given.
name = "scenes-sizes"

trained = "{{$TRAINED:work_dirs/scenes-sizes}}"
bundle = "{{$BUNDLE:none}}"
policy = dict(
    config="../videoiq/scenes-sizes_videoiq.py",
    checkpoint=[f"{trained}/policy/seed{seed}" for seed in range(3)],
    bundle=bundle if bundle != "none" else None,
)
first = dict(policy, checkpoint=policy["checkpoint"][0])
others = {"one_size": "{{$ONE_SIZE:none}}", "without_skip": "{{$WITHOUT_SKIP:none}}"}
of_float = dict(config="scenes_uniform.py", checkpoint=f"{trained}/float")
rows = [
    dict(of_float, name="float"),
    dict(of_float, name="early exit", config="scenes_early_exit.py", threshold=[0.3, 0.5, 0.7, 0.9, 0.99]),
    dict(of_float, name="static INT8", static_int8=dict(size=[112, 80, 64])),
    dict(of_float, name="static INT8, fewer frames", static_int8=dict(size=112, frames=[4, 2, 1])),
    *[dict(first, name=f"fixed-{mode}", precision=mode) for mode in ("8", "8@80", "8@64")],
    dict(first, name="fewer frames", frames=dict(mode="8", count=[4, 2, 1])),
    dict(first, name="frame difference", difference=dict(mode="8", processed=[0.75, 0.5, 0.25])),
    dict(policy, name="random", usage_of="videoiq", draws=2),
    *[
        dict(
            name=f"videoiq, {what.replace('_', ' ')}",
            config=f"../videoiq/scenes-sizes-{what}_videoiq.py",
            checkpoint=[f"{folder}/policy/seed{seed}" for seed in range(3)],
            bundle=f"{folder}/bundle",
        )
        for what, folder in others.items()
        if folder != "none"
    ],
    dict(policy, name="videoiq", multiplier=[-4, -1, 1, 4]),
    dict(policy, name="videoiq"),
    dict(policy, name="oracle", oracle=True),
]
del trained, bundle, policy, first, of_float, others
