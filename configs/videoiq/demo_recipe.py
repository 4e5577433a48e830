# python tools/train_stages.py configs/videoiq/demo_recipe.py --work-dir work_dirs/demo
#
# Synthetic clips of which the right policy is known; minutes on two cores. See _base_/datasets/synthetic.py.
_base_ = ["../_base_/recipes/four_stages.py"]
name = "demo"

splits = ("train", "val", "test")
in_work_dir = {f"{split}_dataloader.dataset.data_root": "{work_dir}/data" for split in splits}
stages = dict(
    float=dict(config="../float/demo_float.py", cfg_options=in_work_dir),
    any_precision=dict(config="../any_precision/demo_any_precision.py", cfg_options=in_work_dir),
    policy_backbone=dict(config="../policy_backbone/demo_policy_backbone.py", cfg_options=in_work_dir),
    policy=dict(config="demo_videoiq.py", cfg_options=in_work_dir),
)
del splits, in_work_dir

data = dict(
    function="mmvideoiq.data.synthetic.make_synthetic",
    kwargs=dict(out="{work_dir}/data", train=1200, val=200, test=400, seed=0, size=64),
)
evaluate = dict(engine="openvino", threads=1, kinds="{work_dir}/data")

fast = dict(data=dict(train=96, val=48, test=48))
