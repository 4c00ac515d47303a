"""Answers one question in one way, and prints the seconds and a digest of the answer as JSON."""

import json
import resource
import sys
import time
import zlib

import ways


def main(question, way, path, threads):
    answer = ways.prepare(question, way, int(threads))
    processor = time.process_time()
    start = time.perf_counter()
    values = answer(path)
    seconds = time.perf_counter() - start
    processor = time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    flat = values.reshape(-1)
    found = {
        "seconds": seconds,
        "processor": processor,
        "peak": peak,
        "shape": list(values.shape),
        # Values as they are for arrays; means are compared as far as float32 is exact.
        "digest": zlib.crc32(values.tobytes()) if question == "array" else None,
        "sample": [float(value) for value in flat[:: max(1, len(flat) // 1000)]],
    }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
