#!/usr/bin/env bash
# Runs every fuzz target for a bounded time, one after the other, from anywhere in the repository.
#
#   tests/fuzz.sh                 60 seconds each
#   tests/fuzz.sh 600             600 seconds each
#   tests/fuzz.sh 60 store_log    only the targets whose names hold this word
#
# Each begins with the corpus in its fuzz/corpus folder (what was found worth keeping) and works in a copy of it, under
# FUZZ_WORK (default: a folder fuzz-work in the build folder). A finding stops the script; libFuzzer prints the input's
# path and the command that replays it. Mend it, and keep the input in fuzz/corpus/TARGET with a regression test.
# Needs `cargo install cargo-fuzz`; the stable compiler will do.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
word=${2:-}
work=${FUZZ_WORK:-$PWD/target/fuzz-work}
export RUSTC_BOOTSTRAP=1

command -v cargo-fuzz >/dev/null || { echo "cargo-fuzz is missing: cargo install cargo-fuzz --locked" >&2; exit 2; }

ran=0
for crate in protocol/wire protocol/onem2m runtime actors/node; do
    for source in "$crate"/fuzz/fuzz_targets/*.rs; do
        target=$(basename "$source" .rs)
        [[ $target == *"$word"* ]] || continue
        corpus=$work/$crate/$target
        mkdir -p "$corpus" "$crate/fuzz/corpus/$target"
        cp -n "$crate/fuzz/corpus/$target"/* "$corpus"/ 2>/dev/null || true
        printf '\n=== %s %s, %s s\n' "$crate" "$target" "$seconds"
        (cd "$crate" && cargo fuzz run --target-dir "$work/build" "$target" "$corpus" -- \
            -max_total_time="$seconds" -rss_limit_mb=4096 -timeout=10 -print_final_stats=1)
        ran=$((ran + 1))
    done
done
[[ $ran -gt 0 ]] || { echo "no target is called like '$word'" >&2; exit 2; }
printf '\n=== %d targets, %s s each: nothing found\n' "$ran" "$seconds"
