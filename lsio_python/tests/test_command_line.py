"""``python -m lsio`` is the program ``lsio``."""

import os
import signal
import subprocess
import sys

import lsio
import pytest

# Takes minutes unless it is ended.
SLOW = "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b WHERE a.value % 7 = b.value % 11"


def ask(*arguments, input=None):
    """Runs the command line."""
    return subprocess.run(
        [sys.executable, "-m", "lsio", *arguments], capture_output=True, text=True, timeout=60, input=input
    )


def test_statements():
    done = ask("--format", "csv", "-c", "SELECT latitude, avg(t2m) AS t FROM 't2m.zarr' GROUP BY latitude ORDER BY 1")
    assert done.stdout == "latitude,t\n-70.0,280.0\n0.0,281.0\n70.0,282.0\n", done.stderr
    assert done.returncode == 0


def test_scripts_on_standard_input():
    done = ask("--format", "csv", input="SELECT 1 + 1 AS two;\n")
    assert (done.returncode, done.stdout) == (0, "two\n2\n"), done.stderr


def test_stores():
    done = ask("t2m.zarr")
    assert done.returncode == 0 and "t2m" in done.stdout


def test_help_and_version():
    assert ask("--version").stdout == f"lsio {lsio.__version__}\n"
    done = ask("--help")
    assert done.returncode == 0 and "Usage: lsio " in done.stdout


def test_failures():
    done = ask("-c", "SELECT avg(t2n) FROM 't2m.zarr'")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ") and "did you mean" in done.stderr
    done = ask("--nonsense")
    assert done.returncode == 2 and "Usage: lsio " in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX has them")
def test_ctrl_c_ends_it():
    started = [sys.executable, "-m", "lsio", "-c", "SELECT 1 AS ready", "-c", SLOW, "--format", "csv"]
    with subprocess.Popen(started, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(signal.SIGINT)
        output, errors = child.communicate(timeout=60)
    assert child.returncode == 130, errors
    assert b"Traceback" not in errors


@pytest.mark.skipif(os.name != "posix", reason="pipes break as POSIX has them")
def test_a_reader_that_goes_is_no_failure():
    command = f"{sys.executable} -m lsio --format csv -c 'SELECT * FROM generate_series(1, 1000000)' | head -n 2"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("value\n1\n", "")
