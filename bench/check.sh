#!/bin/bash
# Compares the rooms' benchmarks of this tree with those of another commit, and says what
# became slower or larger by more than noise.
#   bench/check.sh COMMIT [PACKAGES…]
# COUNT (6) is how often each is run, in turn; BENCH which (.); BENCHTIME for how long (0.2s).
set -euo pipefail
cd "$(dirname "$0")/.."
base=${1:?which commit to compare with? for example: make bench-check BASE=HEAD~1}
shift
packages=("${@:-./server/internal/...}")
work=$(mktemp -d)
trap 'git worktree remove --force "$work/tree" 2>/dev/null; rm -rf "$work"' EXIT
git worktree add --quiet --detach "$work/tree" "$base"

run() { # run TREE FILE
    (cd "$1" && go test -run '^$' -bench "${BENCH:-.}" -benchmem -benchtime "${BENCHTIME:-0.2s}" "${packages[@]}" 2>&1) |
        grep -E '^(goos|goarch|pkg|cpu|Benchmark)' >>"$2" || true # a package without benchmarks has no line
}
for i in $(seq "${COUNT:-6}"); do
    echo "round $i of ${COUNT:-6}" >&2
    run "$work/tree" "$work/before"
    run . "$work/now"
done
[ -s "$work/before" ] && [ -s "$work/now" ] || { echo "no benchmark ran: see go test -bench . ${packages[*]}" >&2; exit 1; }
go tool -modfile=tools/go.mod benchstat "before=$work/before" "now=$work/now" | tee "$work/table"
# a change that is not noise has a percentage with a sign; of rates (…/s) more is better
awk -F'│' '/sec\/op|B\/op|allocs\/op/ {cost = 1} /\/s / {cost = 0} cost && /\+[0-9.]+% \(p=/ {print; worse = 1} END {exit worse}' "$work/table" >"$work/worse" || {
    printf '\nworse than at %s by more than noise:\n' "$base"
    cat "$work/worse"
    exit 1
}
echo "nothing is worse than at $base by more than noise"
