# shellcheck shell=bash disable=SC2034
# Shared by the scripts of the test cluster; sourced, never run.
set -euo pipefail

e2e=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
cache=${GBO_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/graph-backup-operator}
state=$(readlink -m "${GBO_STATE:-/var/tmp/graph-backup-operator-e2e}")
# One cluster per state folder: its control group, its lock.
cluster_name=graph-backup-operator-e2e-$(cksum <<<"$state" | cut -d' ' -f1)
# shellcheck source-path=SCRIPTDIR source=versions.env
source "$e2e/versions.env"

# Folders of the cache, keyed by version. `sources` are everything that the cluster's Go programs are made of.
sources=$(cd "$e2e/cluster" && cat go.mod go.sum cmd/*/*.go | sha256sum | cut -c1-16)
programs=$cache/cluster-$sources
containerd=$cache/containerd-$CONTAINERD_VERSION
helm=$cache/helm-$HELM_VERSION
images=$cache/cluster-images-$sources

# As in the Makefile: without a target folder of the caller's, what cargo compiles is kept in the cache.
build_dir="$cache/cargo/{workspace-path-hash}"
[[ ${CARGO_TARGET_DIR:-} ]] || export CARGO_BUILD_BUILD_DIR=${CARGO_BUILD_BUILD_DIR:-$build_dir}

fail() {
    echo "${0##*/}: $*" >&2
    exit 1
}

need_root() {
    [[ $EUID -eq 0 ]] || fail "needs root (network namespaces, mounts): start it with sudo -E"
}

# step TEXT COMMAND…: runs the command and prints a line with the seconds it took; what it prints is shown if it fails.
step() {
    local text=$1 output code=0 begin=${EPOCHREALTIME/./} spent
    shift
    output=$(mktemp)
    printf '%-52s' "$text"
    set +e
    (set -e && "$@") &>"$output"
    code=$?
    set -e
    spent=$((${EPOCHREALTIME/./} - begin))
    printf ' %6d.%d s\n' $((spent / 1000000)) $((spent / 100000 % 10))
    [[ $code -eq 0 ]] || { echo "failed ($code):" && tail -n 50 "$output"; } >&2
    rm "$output"
    return $code
}

# until_true SECONDS COMMAND…: tries the command until it succeeds; fails when the seconds are over.
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@" &>/dev/null; do
        ((SECONDS < end)) || { echo "gave up waiting for: $*" >&2; return 1; }
        sleep 0.2
    done
}

# lock NAME: held until the script ends. Whatever is started to stay must close descriptor 9.
lock() {
    mkdir -p "$cache"
    exec 9>"$cache/$1.lock"
    flock -w 3600 9 || fail "waited an hour for the lock $cache/$1.lock"
}

# Mount points of the control group file systems: one with version 2, one per controller with version 1.
cgroup_mounts() {
    awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/mounts | grep '^/sys/fs/cgroup' | sort -u
}

# Process id, seen from the host, of the cluster's first process; fails when there is none.
# The control group proves that the recorded number is not somebody else's by now.
first_process() {
    local pid
    pid=$(cat "$state/pid" 2>/dev/null) && grep -qs "/$cluster_name" "/proc/$pid/cgroup" && echo "$pid"
}

# inside COMMAND…: runs a command in the cluster's namespaces (network, mounts, processes), in the same folder.
inside() {
    local pid
    pid=$(first_process) || fail "no cluster runs here: start it with e2e/up"
    nsenter --target "$pid" --net --mount --pid --uts --wdns="$PWD" -- \
        env KUBECONFIG="$state/admin.kubeconfig" GBO_STATE="$state" \
        CONTAINERD_ADDRESS=/run/containerd/containerd.sock CONTAINERD_NAMESPACE=k8s.io \
        PATH="$programs:$containerd:$helm:$PATH" "$@"
}
