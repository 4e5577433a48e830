#!/usr/bin/env bash
# Train with several processes, one per GPU; on a machine without GPUs they share the CPU.
#
#   bash tools/dist_train.sh CONFIG GPUS [flags of tools/train.py]
#
# On several machines, the same on each of them with its own NODE_RANK and number of GPUs:
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 PORT=29500 bash tools/dist_train.sh CONFIG GPUS
. "$(dirname "${BASH_SOURCE[0]}")/launchers.sh"

usage $# 2 "CONFIG GPUS [flags of tools/train.py]"
need_config "$1"
exec "$PYTHON" -m mmvideoiq.jobs.launch "$2" "$ROOT/tools/train.py" "$1" --launcher pytorch "${@:3}"
