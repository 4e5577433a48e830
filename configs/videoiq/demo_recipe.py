# python tools/train_stages.py configs/videoiq/demo_recipe.py --work-dir work_dirs/demo
#
# Synthetic clips of which the right policy is known; minutes on two cores. See _base_/datasets/synthetic.py.
name = "demo"

splits = ("train", "val", "test")
in_work_dir = {f"{split}_dataloader.dataset.data_root": "{work_dir}/data" for split in splits}
stages = [
    dict(name="float", config="../float/demo_float.py", cfg_options=in_work_dir),
    dict(
        name="any_precision",
        config="../any_precision/demo_any_precision.py",
        cfg_options={**in_work_dir, "load_from": "{float}"},
    ),
    dict(
        name="policy_backbone",
        config="../policy_backbone/demo_policy_backbone.py",
        cfg_options=in_work_dir,
    ),
    dict(
        name="policy",
        config="demo_videoiq.py",
        cfg_options={
            **in_work_dir,
            "load_from": "{any_precision}",
            "model.policy.backbone.init_cfg": dict(
                type="Pretrained", checkpoint="{policy_backbone}", prefix="backbone."
            ),
        },
        seeds=[0, 1, 2],
    ),
]
del splits, in_work_dir

data = dict(
    function="mmvideoiq.data.synthetic.make_synthetic",
    kwargs=dict(out="{work_dir}/data", train=1200, val=200, test=400, seed=0),
)
evaluate = dict(float="float", videoiq="policy", random_draws=2, engine="openvino", kinds="{work_dir}/data")

# --fast: does everything work? Its figures mean nothing.
fast = dict(
    cfg_options={"train_cfg.max_epochs": 1},
    seeds=[0],
    data=dict(train=96, val=48, test=48),
    evaluate=dict(random_draws=1),
)
