"""The wheel in a venv of its own, where nothing else is installed."""

import os
import pathlib
import subprocess
import tempfile
import venv
import zipfile

import pytest

WHEEL = os.environ.get("LSIO_TEST_WHEEL")
pytestmark = pytest.mark.skipif(WHEEL is None, reason="test.sh makes the wheel, and says in LSIO_TEST_WHEEL where it is")


def run(*command):
    """Runs a command without this process's packages."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=clean)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(600)
def test_a_fresh_venv(store):
    with tempfile.TemporaryDirectory() as directory:
        venv.create(directory, with_pip=True)
        scripts = pathlib.Path(directory) / ("Scripts" if os.name == "nt" else "bin")
        python = scripts / "python"
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]

        run(*install, WHEEL)
        packages = run(python, "-m", "pip", "--disable-pip-version-check", "list", "--format", "freeze")
        names = {line.partition("==")[0] for line in packages.split()}
        assert names - {"pip", "setuptools"} == {"lsio", "numpy"}
        run(python, "-m", "pip", "--disable-pip-version-check", "check")
        asked = f"import lsio; print(lsio.sql('SELECT avg(t2m) AS t FROM \"{store}/t2m.zarr\"').to_numpy())"
        assert run(python, "-c", asked) == "{'t': array([281.])}\n"
        csv = ["--format", "csv", "-c", f"SELECT max(t2m) AS t FROM '{store}/t2m.zarr'"]
        assert run(python, "-m", "lsio", *csv) == run(scripts / "lsio", *csv) == "t\n282.0\n"

        # The engine is found by its name, and is nobody else's default.
        run(*install, f"{WHEEL}[xarray]")
        asked = f"""
import xarray as xr
ds = xr.open_dataset("{store}/t2m.zarr", engine="lsio")
print(float(ds.t2m.mean()), ds.lsio.mean("time").t2m.dims, sorted(xr.backends.list_engines()))
"""
        assert run(python, "-c", asked) == "281.0 ('latitude', 'longitude') ['lsio', 'store']\n"


def test_the_archive():
    with zipfile.ZipFile(WHEEL) as wheel:
        names = wheel.namelist()
        assert {"lsio/__init__.py", "lsio/py.typed", "lsio/_lsio.pyi", "lsio/_lsio.abi3.so"} <= set(names)
        (record,) = [name for name in names if name.endswith("RECORD")]
        assert sorted(line.split(",")[0] for line in wheel.read(record).decode().split()) == sorted(names)
        (metadata,) = [wheel.read(name).decode() for name in names if name.endswith("METADATA")]
    assert "Requires-Dist: numpy>=2\n" in metadata
    assert "Requires-Dist: xarray>=2025.6 ; extra == 'xarray'\n" in metadata
    assert "-cp311-abi3-" in pathlib.Path(WHEEL).name
