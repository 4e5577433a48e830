#!/usr/bin/env bash
# Train on a Slurm cluster, one task per GPU.
#
#   GPUS=16 GPUS_PER_NODE=8 CPUS_PER_TASK=5 SRUN_ARGS="--time=1-0" \
#       bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG [flags of tools/train.py]
#
# GPUS counts those of all nodes; 8 unless given. Each node is asked for gpu:GPUS_PER_NODE, or for what GRES says: an
# empty GRES= asks for no GPU, and the tasks share the CPUs. PORT is drawn at random unless given.
. "$(dirname "${BASH_SOURCE[0]}")/launchers.sh"

usage $# 3 "PARTITION JOB_NAME CONFIG [flags of tools/train.py]"
need_config "$3"
slurm "$1" "$2" "$PYTHON" -u "$ROOT/tools/train.py" "$3" --launcher slurm "${@:4}"
