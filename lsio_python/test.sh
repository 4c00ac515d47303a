#!/usr/bin/env bash
# Tests the Python package: in a venv of its own under the target directory, with the extension that the workspace's
# tests were built with. Skips, and says so, where there is no Python 3.11 or newer.
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

# A package beside the sources: the extension isn't put among them.
package="$target/python-package"
mkdir -p "$package"
rm -rf "$package/lsio"
cp -R lsio_python/python/lsio "$package/lsio"
case "$(uname)" in
    Darwin) cp "$target/debug/lib_lsio.dylib" "$package/lsio/_lsio.abi3.so" ;;
    *) cp "$target/debug/lib_lsio.so" "$package/lsio/_lsio.abi3.so" ;;
esac
PYTHONPATH="$package" "$venv/bin/python" -m pytest --quiet --config-file lsio_python/pyproject.toml \
    --rootdir "$package" --confcutdir "$PWD/lsio_python" --import-mode importlib \
    -p no:cacheprovider lsio_python/tests "$package/lsio" "$@"
