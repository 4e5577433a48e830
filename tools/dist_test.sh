#!/usr/bin/env bash
# Test with several processes, one per GPU; on a machine without GPUs they share the CPU.
#
#   bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [flags of tools/test.py]
#
# On several machines as with dist_train.sh.
. "$(dirname "${BASH_SOURCE[0]}")/launchers.sh"

usage $# 3 "CONFIG CHECKPOINT GPUS [flags of tools/test.py]"
need_config "$1"
exec "$PYTHON" -m mmvideoiq.jobs.launch "$3" "$ROOT/tools/test.py" "$1" "$2" --launcher pytorch "${@:4}"
