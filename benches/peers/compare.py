#!/usr/bin/env python3
"""Compares lsio with its peers: one store, one machine, the same number of threads, in turns.

The store is written by `lsio-bench make-data`, and its rows once more as a Parquet file for engines that have no
Zarr. Each answer comes from a fresh process. A peer's seconds are those from opening the data to the answer, without
the start of Python and its imports; lsio's are those of its whole process. Answers are compared with lsio's.
"""

import argparse
import csv
import io
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import peers
from questions import QUESTIONS

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# The relative difference of two answers from which on they differ: some peers add up in float32.
TOLERANCE = 1e-5


def main():
    args = arguments()
    args.directory.mkdir(parents=True, exist_ok=True)
    store = args.directory / f"{args.codec}-{args.gib}.zarr"
    if not store.exists():
        make_data = [args.lsio.with_name("lsio-bench"), "make-data", "--codec", args.codec]
        subprocess.run([*make_data, "--gib", str(args.gib), store], check=True, stdout=subprocess.DEVNULL)
    rows = args.directory / f"rows-{args.gib}.parquet"
    if peers.ON_PARQUET & set(args.peers) and not rows.exists():
        print("writing rows as Parquet", file=sys.stderr)
        # In a process of its own: a child's peak is at least what its parent holds.
        subprocess.run([sys.executable, HERE / "parquet.py", store, rows], check=True)
    warm(store, rows)
    print(f"| question | {' | '.join(f'{name}, s | MiB' for name in ['lsio', *args.peers])} |")
    print("| --- " * (1 + 2 * (1 + len(args.peers))) + "|")
    for question in args.questions:
        print(line(question, args, store, rows), flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=pathlib.Path, help="where the data are, or are written to")
    parser.add_argument("--lsio", type=pathlib.Path, default=ROOT / "target/release/lsio", help="the program")
    parser.add_argument("--gib", type=int, default=1, help="size of the store in GiB, uncompressed")
    parser.add_argument("--codec", default="zstd", help="raw, zstd or blosc-lz4")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--runs", type=int, default=3, help="number of turns; the median counts")
    parser.add_argument("--peers", nargs="*", default=peers.names(), choices=peers.names())
    parser.add_argument("--questions", nargs="*", default=list(QUESTIONS), choices=list(QUESTIONS))
    return parser.parse_args()


def warm(*paths):
    """Reads the files once, so that every peer finds them in the page cache."""
    for path in paths:
        for file in [path] if path.is_file() else path.rglob("*"):
            if file.is_file():
                with file.open("rb") as opened:
                    while opened.read(1 << 24):
                        pass


def line(question, args, store, rows):
    """The table's line: the median of the seconds and the greatest peak, with the ratio to lsio's seconds."""
    found = {name: [] for name in ["lsio", *args.peers]}
    for _ in range(args.runs):
        found["lsio"].append(ask_lsio(question, args, store))
        for peer in args.peers:
            path = rows if peer in peers.ON_PARQUET else store
            found[peer].append(ask_peer(peer, question, args, path))
    ours = statistics.median(run["seconds"] for run in found["lsio"])
    cells = [question]
    for name, runs in found.items():
        seconds = statistics.median(run["seconds"] for run in runs)
        ratio = "" if name == "lsio" else f" ({seconds / ours:.1f} ×)"
        differs = differ(runs[0]["rows"], found["lsio"][0]["rows"])
        cells.append(f"{seconds:.3f}{ratio}{' ' + differs if differs else ''}")
        cells.append(f"{max(run['peak'] for run in runs) >> 20}")
    return f"| {' | '.join(cells)} |"


def ask_lsio(question, args, store):
    sql = QUESTIONS[question].sql.format(table=f"'{store}'")
    command = [args.lsio, "--format", "csv", "-c", sql]
    if args.threads != os.cpu_count():
        sql = f"SET datafusion.execution.target_partitions = {args.threads}"
        command[-2:-2] = ["-q", "-c", sql]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=with_threads(args.threads))
    printed = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        sys.exit(f"lsio failed at {question}")
    lines = list(csv.reader(io.StringIO(printed.decode())))
    answer = [[float(value) for value in row] for row in lines[1:]]
    return {"seconds": seconds, "peak": used.ru_maxrss * 1024, "rows": answer}


def ask_peer(peer, question, args, path):
    command = [sys.executable, HERE / "one.py", peer, question, path, str(args.threads)]
    done = subprocess.run(command, stdout=subprocess.PIPE, env=with_threads(args.threads))
    if done.returncode:
        sys.exit(f"{peer} failed at {question}")
    return json.loads(done.stdout)


def with_threads(threads):
    """The environment in which libraries use this many threads."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS", "TOKIO_WORKER_THREADS")
    return os.environ | {name: str(threads) for name in names}


def differ(theirs, ours):
    """What tells that two answers are not the same, or nothing."""
    if [len(row) for row in theirs] != [len(row) for row in ours]:
        return f"({len(theirs)} rows, not {len(ours)})"
    pairs = [(a, b) for row, other in zip(theirs, ours) for a, b in zip(row, other)]
    worst = max((abs(a - b) / max(abs(b), 1e-30) for a, b in pairs), default=0)
    return f"(differs by {worst:.0e})" if worst > TOLERANCE else ""


if __name__ == "__main__":
    main()
