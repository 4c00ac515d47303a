"""Answers one question with one peer, and prints the seconds, the peak of the memory and the answer as JSON."""

import json
import resource
import sys
import time

import peers


def main(peer, question, path, threads):
    answer = peers.prepare(peer, int(threads))
    start = time.perf_counter()
    rows = answer(question, path)
    seconds = time.perf_counter() - start
    rows = [[float(value) for value in row] for row in rows]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    json.dump({"seconds": seconds, "peak": peak, "rows": rows}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
