"""A plug-in of pytest for xarray's own tests: its engine ``zarr`` opens what is a path by lsio, and writes as ever."""

import asyncio
import inspect
import os

import pytest
from lsio.xarray_backend import LsioBackendEntrypoint
from xarray.backends import plugins
from xarray.backends.zarr import ZarrBackendEntrypoint

# Options of opening that are about writing, or about zarr-python; and one that xarray's engine takes and doesn't use.
_OTHERS = ("mode", "synchronizer", "zarr_format", "zarr_version", "chunk_store", "cache_members", "store", "engine")
_UNUSED = ("use_zarr_fill_value_as_mask",)

_opened = {"lsio": 0, "zarr": 0}


def _by(name):
    """The method of this name, by lsio where that can be."""

    def opened(self, filename_or_obj, **options):
        is_path = isinstance(filename_or_obj, (str, os.PathLike)) and not options.get("store")
        _opened["lsio" if is_path else "zarr"] += 1
        if not is_path:
            return getattr(ZarrBackendEntrypoint, name)(self, filename_or_obj, **options)
        options = {key: value for key, value in options.items() if key not in (*_OTHERS, *_UNUSED)}
        return getattr(LsioBackendEntrypoint(), name)(filename_or_obj, **options)

    return opened


class _ReadByLsio(ZarrBackendEntrypoint):
    open_dataset_parameters = plugins.detect_parameters(ZarrBackendEntrypoint.open_dataset)
    open_dataset = _by("open_dataset")
    open_datatree = _by("open_datatree")
    open_groups_as_dict = _by("open_groups_as_dict")


def pytest_configure(config):
    for mark in ("skip_if_param", "skip_with_dask_array", "flaky", "network", "asyncio"):
        config.addinivalue_line("markers", mark)
    if config.getoption("by_lsio"):
        module, _ = plugins.BACKEND_ENTRYPOINTS["zarr"]
        plugins.BACKEND_ENTRYPOINTS["zarr"] = (module, _ReadByLsio)


def pytest_addoption(parser):
    parser.addoption("--by-lsio", action="store_true", dest="by_lsio")


def pytest_collection_modifyitems(items):
    """What a file of xarray's repository does that isn't in its package: skips parameters that a test names."""
    for item in items:
        given = getattr(getattr(item, "callspec", None), "params", {})
        for mark in item.iter_markers("skip_if_param"):
            named = {key: value for key, value in mark.kwargs.items() if key not in ("reason", "condition")}
            if mark.kwargs.get("condition", True) and all(given.get(key) == value for key, value in named.items()):
                item.add_marker(pytest.mark.skip(reason=mark.kwargs["reason"]))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Runs coroutines, for which there is a plug-in that not everybody has."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = pyfuncitem._fixtureinfo.argnames
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in arguments}))
    return True


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"datasets opened by lsio: {_opened['lsio']}, by zarr-python: {_opened['zarr']}")
