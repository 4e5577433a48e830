# MMAction2's runtime with the plugin, and checkpoints that an interruption cannot damage: with max_keep_ckpts=2
# the last complete checkpoint stays until the next one is complete.
custom_imports = dict(imports=["mmvideoiq.plugin"], allow_failed_imports=False)
default_scope = "mmaction"

default_hooks = dict(
    runtime_info=dict(type="RuntimeInfoHook"),
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=100, ignore_last=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=2, save_best="auto"),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    sync_buffers=dict(type="SyncBuffersHook"),
    epoch_seed=dict(type="EpochSeedHook"),  # a resumed training draws the noise of an uninterrupted one
    resumed_validation=dict(type="ResumedValidationHook"),  # and chooses the same best checkpoint
    finite_loss=dict(type="FiniteLossHook"),  # a loss that is NaN or infinite ends the training
    checkpoint_fit=dict(type="CheckpointFitHook"),  # load_strict = False: load what fits
    policy_view=dict(type="PolicyViewHook"),  # what a policy chooses, after each validation
)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)

log_processor = dict(type="LogProcessor", window_size=20, by_epoch=True)
# Where figures and pictures go. VIS_BACKENDS=LocalVisBackend,TensorboardVisBackend also writes them for TensorBoard.
vis_backends = [dict(type=name) for name in "{{$VIS_BACKENDS:LocalVisBackend}}".split(",")]
visualizer = dict(type="ActionVisualizer", vis_backends=vis_backends)
log_level = "INFO"
load_from = None
resume = False
randomness = dict(seed=0)
