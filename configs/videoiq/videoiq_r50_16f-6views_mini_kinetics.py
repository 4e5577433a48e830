# Mini-Kinetics, stage 4, tested on 2 clips x 3 crops: each view is a clip for the policy, their scores are averaged.
_base_ = ["./videoiq_r50_16f_mini_kinetics.py"]
test_dataloader = dict(batch_size=2, dataset=dict(pipeline={{_base_.views_pipeline}}))
