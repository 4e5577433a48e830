# Folder, stage 4, as folder-sizes_videoiq.py, with the tiny policy.
_base_ = ["./folder-sizes_videoiq.py", "../_base_/models/integer_policy.py"]
model = dict(policy=dict(_delete_=True, **_base_.tiny_policy))
