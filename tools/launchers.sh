# What dist_*.sh and slurm_*.sh share; they source it.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ -z "${PYTHON:-}${VIRTUAL_ENV:-}" ] && [ -x "$ROOT/.venv/bin/python" ]; then
    PYTHON=$ROOT/.venv/bin/python # the environment that make has made
fi
PYTHON=${PYTHON:-python}
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"

fail() {
    echo "${0##*/}: error: $*" >&2
    exit 2
}

# usage GIVEN NEEDED TEXT: ends with the text where fewer arguments are given than needed.
usage() {
    [ "$1" -ge "$2" ] || { echo "usage: bash $0 $3" >&2 && exit 2; }
}

need_config() {
    [ -f "$1" ] || fail "config not found: $1"
}

# slurm PARTITION JOB_NAME COMMAND...: runs the command once per GPU.
slurm() {
    local gpus=${GPUS:-8} cpus=${CPUS_PER_TASK:-5}
    [[ $gpus =~ ^[1-9][0-9]*$ ]] || fail "GPUS must be a whole number >= 1, got '$gpus'"
    local per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
    [[ $per_node =~ ^[1-9][0-9]*$ ]] || fail "GPUS_PER_NODE must be a whole number >= 1, got '$per_node'"
    [[ $cpus =~ ^[1-9][0-9]*$ ]] || fail "CPUS_PER_TASK must be a whole number >= 1, got '$cpus'"
    command -v srun >/dev/null || fail "no srun here: this is no Slurm cluster; dist_train.sh and dist_test.sh do without"
    local gres=${GRES-gpu:$per_node}
    export MASTER_PORT=${PORT:-$((12000 + RANDOM % 20000))}
    # shellcheck disable=SC2086  # SRUN_ARGS holds several words
    exec srun --partition="$1" --job-name="$2" --ntasks="$gpus" --ntasks-per-node="$per_node" \
        --cpus-per-task="$cpus" --kill-on-bad-exit=1 ${gres:+--gres="$gres"} ${SRUN_ARGS:-} "${@:3}"
}
