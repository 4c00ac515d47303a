#!/usr/bin/env python3
"""Compares lsio in Python with its peers: one machine, the same number of threads, in turns, each in a fresh process."""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import venv

from ways import QUESTIONS

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent

CODECS = {"raw": "raw", "blosc-lz4": "blosc-lz4", "zstd": "zstd", "sharded": "sharded-zstd"}

# The relative difference of two means from which on they differ: some peers add up in float32.
TOLERANCE = 1e-3


def main():
    args = arguments()
    args.directory.mkdir(parents=True, exist_ok=True)
    python = args.python or own_python(args.directory)
    stores = {name: store(name, args) for name in args.codecs}
    state = "cold" if args.cold else "hot"
    for question in args.questions:
        ways = QUESTIONS[question]
        print(f"\n{question}, {state}, {args.threads} threads: seconds (processor), least of {args.runs}\n")
        print(f"| store | {' | '.join(ways)} |")
        print("| --- " * (1 + len(ways)) + "|")
        for name, path in stores.items():
            print(line(question, name, path, python, args), flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=pathlib.Path, help="where the stores and the venv are, or are made")
    parser.add_argument("--package", type=pathlib.Path, default=ROOT / "lsio_python/python", help="where lsio is")
    parser.add_argument("--bench", type=pathlib.Path, default=ROOT / "target/release/lsio-bench")
    parser.add_argument("--python", type=pathlib.Path, help="a Python that has the peers, in place of a venv")
    parser.add_argument("--gib", type=float, default=1, help="size of a store in GiB, uncompressed")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--runs", type=int, default=5, help="number of turns; the least counts")
    parser.add_argument("--cold", action="store_true", help="evict the store from the page cache before each run")
    parser.add_argument("--codecs", nargs="*", default=list(CODECS), choices=list(CODECS))
    parser.add_argument("--questions", nargs="*", default=list(QUESTIONS), choices=list(QUESTIONS))
    return parser.parse_args()


def own_python(directory):
    """The Python of a venv with the peers."""
    python = directory / "venv/bin/python"
    if not python.exists():
        venv.create(directory / "venv", with_pip=True)
        install = [python, "-m", "pip", "install", "--quiet", "--requirement", HERE / "requirements.txt"]
        subprocess.run(install, check=True)
    return python


def store(name, args):
    """A store of this kind, which is written if it isn't there."""
    path = args.directory / f"{name}-{args.gib:g}.zarr"
    if not path.exists():
        make_data = [args.bench, "make-data", "--codec", CODECS[name], "--gib", str(args.gib), path]
        subprocess.run(make_data, check=True, stdout=subprocess.DEVNULL)
    return path


def warm(path):
    """Reads the files once, so that every way finds them in the page cache."""
    for file in path.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                while opened.read(1 << 24):
                    pass


def evict(path):
    """Has the system forget the files' pages, so that every way reads them from the drive."""
    for file in path.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def line(question, name, path, python, args):
    """The table's line: the least seconds of each way, and their ratio to those of lsio."""
    found = {way: [] for way in QUESTIONS[question]}
    if not args.cold:
        warm(path)
    ways = list(found)
    for turn in range(args.runs):
        # Who comes behind whom matters: large pages are scarce where small ones were given back.
        for way in ways[turn % len(ways) :] + ways[: turn % len(ways)]:
            if args.cold:
                evict(path)
            found[way].append(ask(question, way, path, python, args))
    first = next(iter(found))
    ours = min(run["seconds"] for run in found[first])
    cells = [name]
    for way, runs in found.items():
        best = min(runs, key=lambda run: run["seconds"])
        ratio = "" if way == first else f", {best['seconds'] / ours:.2f} ×"
        differs = differ(runs[0], found[first][0])
        spread = statistics.median(run["seconds"] for run in runs) / best["seconds"]
        noise = f" ±{spread - 1:.0%}" if spread > 1.1 else ""
        cells.append(f"{best['seconds']:.3f} ({best['processor']:.2f}{ratio}){noise}{differs}")
    return f"| {' | '.join(cells)} |"


def ask(question, way, path, python, args):
    command = [python, HERE / "one.py", question, way, path, str(args.threads)]
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
    environment = os.environ | {name: str(args.threads) for name in names} | {"PYTHONPATH": str(args.package)}
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment)
    if done.returncode:
        sys.exit(f"{way} failed at {question}")
    return json.loads(done.stdout)


def differ(theirs, ours):
    """What tells that two answers are not the same, or nothing."""
    if theirs["shape"] != ours["shape"]:
        return f" (of shape {theirs['shape']}, not {ours['shape']})"
    if theirs["digest"] != ours["digest"]:
        return " (differs)"
    pairs = zip(theirs["sample"], ours["sample"])
    worst = max((abs(a - b) / max(abs(b), 1e-30) for a, b in pairs), default=0)
    return f" (differs by {worst:.0e})" if worst > TOLERANCE else ""


if __name__ == "__main__":
    main()
