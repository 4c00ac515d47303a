"""What a session is told takes effect; errors are what Python raises for their kinds."""

import hashlib
import http.server
import os
import re
import shutil
import subprocess
import sys
import textwrap
import threading

import lsio
import pytest
import xarray as xr


@pytest.fixture
def served(store, tmp_path):
    """A server of the store, with consolidated metadata, as it lists nothing: its URL, and what was asked for."""
    xr.open_zarr(store / "t2m.zarr", consolidated=False).drop_encoding().chunk(time=2).to_zarr(tmp_path / "t2m.zarr", consolidated=True, zarr_format=2)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            file = tmp_path / self.path.removeprefix("/bucket").lstrip("/")
            body, status = b"", 404
            if self.path.startswith("/private"):
                status = 403
            elif file.is_file():
                body, status = file.read_bytes(), 200
            tag = f'"{hashlib.sha256(body).hexdigest()}"'
            if status == 200 and self.headers.get("If-None-Match") == tag:
                body, status = b"", 304
            asked.append((self.path, status, self.headers))
            self.send_response(status)
            self.send_header("ETag", tag)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    asked = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


MEAN = "SELECT avg(t2m) AS t FROM t"


def chunks(asked):
    """The chunks of data that were sent."""
    return [path for path, status, _ in asked if status == 200 and re.search(r"/t2m/\d", path)]


def test_threads_and_memory():
    con = lsio.connect(threads=3, memory_limit="1m")
    assert con.sql("SHOW datafusion.execution.target_partitions").to_numpy()["value"].tolist() == ["3"]
    sort = "SELECT * FROM generate_series(1, 2000000) ORDER BY value % 1000, value"
    con.set("datafusion.runtime.max_temp_directory_size", "0")
    with pytest.raises(MemoryError):
        con.sql(sort).to_numpy()
    assert len(lsio.connect(memory_limit="1g").sql(sort).to_numpy()["value"]) == 2_000_000
    for threads in (0, -1, "many", True):
        with pytest.raises(ValueError, match="threads="):
            lsio.connect(threads=threads)


def test_engines():
    for engine in ("pread", "object_store"):
        assert lsio.connect(engine=engine).sql("SELECT avg(t2m) AS t FROM 't2m.zarr'").to_numpy()["t"] == 281
    with pytest.raises(ValueError, match="'tape'"):
        lsio.connect(engine="tape")


def test_caches(served, tmp_path):
    url, asked = served
    for cache, again in [("None", 3), ("'100m'", 0)]:
        for expected in (3, again):
            asked.clear()
            script = f"""
                import lsio
                con = lsio.connect(cache={cache})
                con.register("t", "{url}/t2m.zarr")
                print(con.sql("{MEAN}").to_numpy()["t"][0])
            """
            clean = {**os.environ, "LSIO_CACHE_DIR": str(tmp_path / "cache")}
            done = subprocess.run(
                [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60, env=clean
            )
            assert done.stdout == "281.0\n", done.stderr
            assert len(chunks(asked)) == expected, (cache, asked)


def test_options_of_stores(served):
    url, asked = served
    con = lsio.connect()
    con.register("t", "s3://bucket/t2m.zarr", **{"aws.endpoint": url, "aws.skip_signature": True, "aws.region": "here"})
    assert con.sql(MEAN).to_numpy()["t"] == 281
    assert asked and all("Authorization" not in headers for _, _, headers in asked)
    asked.clear()
    keys = {"aws.access_key_id": "me", "aws.secret_access_key": "secret"}
    con.register("t", "s3://bucket/t2m.zarr", **{"aws.endpoint": url, "aws.region": "here", **keys})
    assert con.sql(MEAN).to_numpy()["t"] == 281
    assert asked and all("Credential=me/" in headers["Authorization"] for _, _, headers in asked)


def test_options_of_opening():
    df = lsio.open("t2m.zarr", mask_and_scale=False, drop_variables=["longitude"])
    assert "longitude" not in df.columns or df.schema["longitude"] == "Int64"
    with pytest.raises(lsio.InvalidRequestError, match="unknown option"):
        lsio.open("t2m.zarr", nonsense=1)


def test_kinds_of_errors(store, served, tmp_path):
    url, _ = served

    def chunk(change):
        broken = tmp_path / f"{change.__name__}.zarr"
        shutil.copytree(store / "t2m.zarr", broken)
        (path,) = broken.glob("t2m/c/0/0/0")
        change(path)
        return lsio.sql(f"SELECT avg(t2m) FROM '{broken}'").to_numpy()

    def cut(path):
        path.write_bytes(path.read_bytes()[:7])

    def codec():
        other = tmp_path / "codec.zarr"
        shutil.copytree(store / "t2m.zarr", other)
        document = other / "t2m" / "zarr.json"
        document.write_text(document.read_text().replace('"zstd"', '"middle_out"'))
        return lsio.open(other).to_numpy()

    cases = [
        (lambda: lsio.sql("SELECT * FROM 'nothing.zarr'"), lsio.NotFoundError, FileNotFoundError),
        (lambda: lsio.open("nothing.zarr"), lsio.NotFoundError, FileNotFoundError),
        (lambda: lsio.open(f"{url}/nothing.zarr"), lsio.NotFoundError, FileNotFoundError),
        (lambda: lsio.open(f"{url}/private.zarr"), lsio.PermissionDeniedError, PermissionError),
        (lambda: lsio.open("http://127.0.0.1:1/nobody.zarr"), lsio.StoreError, OSError),
        (lambda: lsio.open("t2m.zarr", variables=["t2n"]), lsio.UnknownNameError, KeyError),
        (lambda: lsio.sql("SELECT t2n FROM 't2m.zarr'"), lsio.QueryError, ValueError),
        (lambda: lsio.sql("SELEC 1"), lsio.QueryError, ValueError),
        (lambda: lsio.sql("SELECT 1; SELECT 2"), lsio.QueryError, ValueError),
        (lambda: chunk(cut), lsio.CorruptDataError, ValueError),
        (codec, lsio.UnsupportedError, NotImplementedError),
    ]
    for ask, own, pythons in cases:
        with pytest.raises(lsio.Error) as raised:
            ask()
        assert isinstance(raised.value, own) and isinstance(raised.value, pythons), repr(raised.value)
        assert "DataFusion" not in str(raised.value) and "External" not in str(raised.value)
