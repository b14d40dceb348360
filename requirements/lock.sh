#!/usr/bin/env bash
# Resolves the lock files anew. Usage: requirements/lock.sh UV [--upgrade]
#
# The files hold for Linux and macOS (environment markers), for Python 3.11, and name no package index. Without --upgrade, versions that still fit
# stay as they are.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$1
shift

compile() {
    local output=$1
    shift
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-emit-find-links --custom-compile-command "make lock" --output-file "requirements/$output" "$@"
}

compile uv.txt requirements/uv.in "$@"
compile build.txt requirements/build.in "$@"
# speechvq[all,dev]: the environment of `make`, of CI and of whoever works on speechvq.
compile dev.txt pyproject.toml --extra all --extra dev --constraint requirements/uv.txt "$@"
# The tiers that machines without a checkout install, with the versions that CI has tried.
compile base.txt pyproject.toml --constraint requirements/dev.txt
compile train.txt pyproject.toml --extra train --constraint requirements/dev.txt

if grep -nE -- '--(extra-)?index-url|--find-links|://' requirements/{uv,build,dev,base,train}.txt; then
    echo "requirements/lock.sh: a lock file names a package index (above); remove it." >&2
    exit 1
fi
