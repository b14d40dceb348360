#!/usr/bin/env bash
# Makes (or brings up to date) the locked environment. Usage: requirements/make_venv.sh DIRECTORY
#
# Needs Python 3.11 and a package index, not root. Every file that is installed is checked against the hashes of the lock; nothing is built from
# source but antlr4-python3-runtime, docopt and unicodecsv (no wheels exist) and speechvq itself.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1

# The lock holds for 3.11 only. A name on PATH is no proof (version managers leave stand-ins), so each candidate is asked.
find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3.11 python3 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    cat >&2 <<'MESSAGE'
speechvq: Python 3.11 was not found (tried $PYTHON, python3.11, python3, python).
The locked environment is made for Python 3.11 because the training engine, fairseq2, has wheels for 3.10 to 3.12 and the lock is tested with 3.11.
  Debian, Ubuntu    apt install python3.11 python3.11-venv
  Fedora            dnf install python3.11
  macOS             brew install python@3.11
  without root      uv python install 3.11, or pyenv install 3.11, or conda create -n py311 python=3.11
Or name one: make PYTHON=/path/to/python3.11
MESSAGE
    return 1
}

if ! "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
    python=$(find_python)
    echo "speechvq: making $venv with $python (a few GB; about a minute on a fast line)"
    rm -rf "$venv"
    if ! "$python" -m venv "$venv"; then
        echo "speechvq: $python cannot make virtual environments; on Debian and Ubuntu: apt install python3.11-venv" >&2
        exit 1
    fi
fi
venv=$(cd "$venv" && pwd)

# The installer is an ordinary wheel, checked like the rest. A uv of the lock's version that is there already will do.
locked_uv=$(sed -n 's/^uv==\([^ ;]*\).*/\1/p' requirements/uv.txt)
if [ "$("$venv/bin/uv" --version 2>/dev/null | cut -d' ' -f2)" != "$locked_uv" ]; then
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$venv/bin/python" -m ensurepip >/dev/null
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --require-hashes -r requirements/uv.txt
fi

export VIRTUAL_ENV=$venv
unset CONDA_PREFIX PYTHONPATH PYTHONHOME
"$venv/bin/uv" pip sync --require-hashes --only-binary :all: --no-binary antlr4-python3-runtime --no-binary docopt --no-binary unicodecsv \
    --build-constraints requirements/build.txt requirements/dev.txt
# hatchling and editables are in the lock, so the build of speechvq itself fetches nothing.
"$venv/bin/uv" pip install --quiet --no-deps --no-build-isolation --editable .

# fairseq2's native library wants the system's libsndfile and finds one in the environment as well: link the copy inside soundfile's wheel.
"$venv/bin/python" -m recipes.doctor --link-libsndfile
