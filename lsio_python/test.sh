#!/usr/bin/env bash
# Tests the Python package as a user has it: a wheel is made of the extension that the workspace's tests were built with,
# installed, and asked. The venv is under the target directory. Skips, and says so, where there is no Python 3.11 or newer.
set -euo pipefail
cd "$(dirname "$0")/.."
target="${CARGO_TARGET_DIR:-$PWD/target}"

python="${PYTHON:-python3}"
if ! command -v "$python" >/dev/null ||
    ! "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "skipped: the Python package needs Python 3.11 or newer, with venv"
    exit 0
fi

# The targets of `cargo test --workspace`, so that nothing is built twice.
cargo build --workspace --lib --bins --tests --locked

venv="$target/python"
"$python" -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --requirement lsio_python/tests/requirements.txt

# A wheel of the extension that cargo has built: maturin's metadata, packed. `maturin build`, which makes those that are
# released, would build the extension again.
case "$(uname)" in
    Darwin) extension="$target/debug/lib_lsio.dylib" ;;
    *) extension="$target/debug/lib_lsio.so" ;;
esac
contents="$target/wheel" wheels="$target/wheels" package="$target/python-package"
rm -rf "$contents" "$wheels" "$package"
mkdir -p "$contents" "$wheels"
(cd lsio_python && "$venv/bin/maturin" pep517 write-dist-info \
    --metadata-directory "$contents" --interpreter "$venv/bin/python" >/dev/null)
cp -R lsio_python/python/lsio "$contents/lsio"
find "$contents" -name __pycache__ -prune -exec rm -r {} +
# Most of a debug build is line tables.
strip -S -o "$contents/lsio/_lsio.abi3.so" "$extension"
"$venv/bin/python" -m wheel pack "$contents" --dest-dir "$wheels" >/dev/null
wheel=$(echo "$wheels"/*.whl)
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --target "$package" "$wheel"

export LSIO_TEST_WHEEL="$wheel" PYTHONPATH="$package"
"$venv/bin/python" -m pytest --quiet -rs --config-file lsio_python/pyproject.toml \
    --rootdir "$package" --confcutdir "$PWD/lsio_python" --import-mode importlib \
    -p no:cacheprovider lsio_python/tests "$package/lsio" "$@"

# Types: the package and what a user writes with it, and the stubs against the extension.
unset PYTHONPATH
export MYPYPATH="$package" MYPY_CACHE_DIR="$target/mypy"
"$venv/bin/python" -m mypy --config-file lsio_python/pyproject.toml "$package/lsio" lsio_python/tests/typed.py
PYTHONPATH="$package" "$venv/bin/python" -m mypy.stubtest --mypy-config-file lsio_python/pyproject.toml lsio._lsio
