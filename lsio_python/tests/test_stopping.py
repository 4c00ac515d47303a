"""Reads of xarray's engine end at Ctrl-C, whatever they wait for."""

import http.server
import os
import signal
import threading

import numpy as np
import pytest
import xarray as xr


@pytest.fixture
def silent(store, tmp_path):
    """A server that has the metadata of the store, and doesn't answer for chunks of t2m: its URL, and what was asked for."""
    ds = xr.open_zarr(store / "t2m.zarr", consolidated=False).drop_encoding().chunk(time=2)
    ds.to_zarr(tmp_path / "t2m.zarr", consolidated=True, zarr_format=2)
    asked, over = [], threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            file = tmp_path / self.path.lstrip("/")
            asked.append(self.path)
            if "/t2m/0" in self.path or "/t2m/1" in self.path or "/t2m/2" in self.path:
                over.wait()
            body = file.read_bytes() if file.is_file() else b""
            self.send_response(200 if file.is_file() else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    over.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_interrupts_end_a_read(silent, store):
    url, asked = silent
    ds = xr.open_dataset(f"{url}/t2m.zarr", engine="lsio")
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        ds.t2m.load()
    assert any("/t2m/" in path for path in asked)
    # Others go on.
    local = xr.open_dataset(store / "t2m.zarr", engine="lsio")
    assert np.isfinite(local.t2m.values).all()
