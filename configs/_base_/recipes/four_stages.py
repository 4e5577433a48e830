# Four stages and what they hand over; a recipe names the config of each.
stages = dict(
    float=dict(),
    any_precision=dict(cfg_options={"load_from": "{float}"}),
    policy_backbone=dict(),
    policy=dict(
        cfg_options={
            "load_from": "{any_precision}",
            "model.policy.backbone.init_cfg": dict(
                type="Pretrained", checkpoint="{policy_backbone}", prefix="backbone."
            ),
        },
        seeds=[0, 1, 2],
    ),
)
evaluate = dict(float="float", videoiq="policy", random_draws=2)

# --fast: does everything work? Its figures mean nothing.
fast = dict(cfg_options={"train_cfg.max_epochs": 1}, seeds=[0], evaluate=dict(random_draws=1))
