#!/usr/bin/env bash
# Test on a Slurm cluster, one task per GPU.
#
#   GPUS=16 bash tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [flags of tools/test.py]
#
# The environment is that of slurm_train.sh.
. "$(dirname "${BASH_SOURCE[0]}")/launchers.sh"

usage $# 4 "PARTITION JOB_NAME CONFIG CHECKPOINT [flags of tools/test.py]"
need_config "$3"
slurm "$1" "$2" "$PYTHON" -u "$ROOT/tools/test.py" "$3" "$4" --launcher slurm "${@:5}"
