# DATA_ROOT=work_dirs/gestures/data MOBILENET_V2_WEIGHTS=... \
#     python tools/compare.py configs/baselines/gestures_compare.py
#
# All rivals beside VideoIQ on the gesture clips, in a table for clips of both rooms and one for those of room B.
# TRAINED is the work folder of configs/videoiq/gestures_recipe.py. ONE_SIZE (VideoIQ's choice, of one precision),
# SPARING (the same with a cost weight of 0.5) and WITHOUT_SKIP (sizes alone) are those of policies with fewer actions,
# gestures-*_videoiq.py; their rows are there where the folders are given. CLIPS takes the first of each list.
name = "gestures"

trained = "{{$TRAINED:work_dirs/gestures}}"
kinds = "{{$DATA_ROOT:work_dirs/gestures/data}}"
clips = int("{{$CLIPS:520}}")
datasets = {
    "both rooms": {"test_dataloader.dataset.indices": clips},
    "room B": {
        "test_dataloader.dataset.ann_file": "test_room_b.txt",
        "test_dataloader.dataset.indices": clips,
    },
}

seeds = [f"policy/seed{seed}" for seed in range(3)]
policy = dict(
    config="../videoiq/gestures_videoiq.py",
    checkpoint=[f"{trained}/{seed}" for seed in seeds],
    bundle=f"{trained}/bundle",
)
first = dict(policy, checkpoint=policy["checkpoint"][0])
of_float = dict(config="gestures_uniform.py", checkpoint=f"{trained}/float")
sparing = {"model.losses.efficiency.weight": 0.5}
others = [
    ("one size", "one_size", "{{$ONE_SIZE:none}}", {}),
    ("one size, cost weight 0.5", "one_size", "{{$SPARING:none}}", sparing),
    ("without skip", "without_skip", "{{$WITHOUT_SKIP:none}}", {}),
]
rows = [
    dict(of_float, name="float"),
    dict(of_float, name="early exit", config="gestures_early_exit.py", threshold=[0.3, 0.5, 0.7, 0.9, 0.99]),
    dict(of_float, name="static INT8", static_int8=dict(size=[224, 160, 96])),
    dict(of_float, name="static INT8, fewer frames", static_int8=dict(size=224, frames=[8, 4, 2])),
    *[dict(first, name=f"fixed-{mode}", precision=mode) for mode in ("8", "8@160", "8@96")],
    *[
        dict(first, name=f"fewer frames, {mode}", frames=dict(mode=mode, count=[8, 4, 2]))
        for mode in ("8", "8@160")
    ],
    dict(first, name="frame difference", difference=dict(mode="8@160", processed=[0.5, 0.25, 0.125])),
    dict(policy, name="random", usage_of="videoiq", draws=2),
    *[
        dict(
            name=f"videoiq, {what}",
            config=f"../videoiq/gestures-{config}_videoiq.py",
            checkpoint=[f"{folder}/{seed}" for seed in seeds],
            bundle=f"{folder}/bundle",
            cfg_options=options,
        )
        for what, config, folder, options in others
        if folder != "none"
    ],
    dict(policy, name="videoiq", multiplier=[-4, -1, 1, 4]),
    dict(policy, name="videoiq"),
    dict(policy, name="oracle", oracle=True),
]
del clips, trained, seeds, policy, first, of_float, sparing, others
