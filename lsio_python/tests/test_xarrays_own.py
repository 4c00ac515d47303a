"""xarray's own tests of its Zarr engine, in which lsio reads what is read from a path."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import pytest

TESTS = [
    "TestZarrDirectoryStore",
    "TestZarrRegionAuto",
    "TestDataArrayToZarr",
    "TestZarrRectilinearChunksRead",
    "TestNCZarr",
    "TestZarrDatatreeIO",
]

# Tests that fail, and why.
EXPECTED = {
    "test_read_non_consolidated_warning": "lsio doesn't warn: it is quick without consolidated metadata too",
    "test_to_zarr_not_consolidated": "the same",
    "test_compressor_encoding": "lsio doesn't tell codecs as objects of zarr-python",
    "test_check_encoding_is_consistent_after_append": "the same",
    "test_zarr_encoding": "the same",
}


@pytest.mark.timeout(900)
def test_xarrays_own_tests_pass():
    if importlib.util.find_spec("xarray.tests") is None or importlib.util.find_spec("xarray.tests.test_backends") is None:
        pytest.skip("this xarray was packaged without its tests")
    here = str(pathlib.Path(__file__).resolve().parent)
    path = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "read_by_lsio", "--by-lsio", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    command += ["--disable-warnings", "--tb=line", "-rf", "--pyargs", "xarray.tests.test_backends", "xarray.tests.test_backends_datatree"]
    command += ["-k", " or ".join(TESTS)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    failed = re.findall(r"^FAILED .*::(test_\w+)", done.stdout, re.MULTILINE)
    opened = re.search(r"opened by lsio: (\d+)", done.stdout)
    assert opened and int(opened[1]) > 300, done.stdout[-4000:] + done.stderr[-2000:]
    assert sorted(set(failed)) == sorted(EXPECTED), done.stdout[-8000:]
