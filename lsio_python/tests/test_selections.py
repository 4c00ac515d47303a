"""Selections of random arrays, against xarray's own engine; labels and cells of results."""

import itertools
import os
import warnings

import lsio
import numpy as np
import pytest
import xarray as xr

DTYPES = ["i1", "u2", "i4", ">i4", "i8", "f4", ">f8", "bool", "M8[ns]", "U4", "S3", "O"]


def random_values(rng, dtype, shape):
    if dtype == "O":
        return np.array([("ä" * int(n)) for n in rng.integers(0, 9, shape).ravel()] or [""], object)[
            : int(np.prod(shape))
        ].reshape(shape)
    if dtype == "M8[ns]":
        return np.datetime64("2001-01-01", "ns") + rng.integers(0, 10**6, shape) * np.timedelta64(1, "s")
    if dtype in ("U4", "S3"):
        return rng.integers(0, 999, shape).astype(str).astype(dtype)
    return rng.integers(0, 100, shape).astype(dtype)


def random_store(rng, path, zarr_format):
    """Arrays of one to three dimensions in chunks and shards of random shapes."""
    sizes = {dim: int(rng.integers(1, 15)) for dim in "abc"}
    data, encoding = {}, {}
    for dtype in DTYPES:
        rank = int(rng.integers(1, 4))
        dims = tuple(rng.permutation(list(sizes))[:rank])
        name = "v_" + dtype.translate(str.maketrans(">[]", "b__"))
        data[name] = (dims, random_values(rng, dtype, tuple(sizes[dim] for dim in dims)))
        chunks = tuple(int(rng.integers(1, sizes[dim] + 1)) for dim in dims)
        encoding[name] = {"chunks": chunks}
        if zarr_format == 3 and dtype not in ("O", "U4", "S3") and rng.random() < 0.4:
            encoding[name]["shards"] = tuple(size * int(rng.integers(1, 3)) for size in chunks)
    ds = xr.Dataset(data, {"a": np.arange(sizes["a"])})
    with warnings.catch_warnings():
        # zarr-python warns of types without a specification.
        warnings.simplefilter("ignore")
        ds.to_zarr(path, encoding=encoding, zarr_format=zarr_format, consolidated=False)
    return sizes


def random_indexers(rng, sizes):
    """Slices, numbers, lists, and points of one or two dimensions that some dimensions share."""
    indexers = {}
    shape = [(4,), (2, 3), (0,)][rng.integers(0, 3)]
    dims = ("point", "other")[: len(shape)]
    for dim, size in sizes.items():
        match rng.integers(0, 7):
            case 1:
                indexers[dim] = int(rng.integers(-size, size))
            case 2:
                indexers[dim] = slice(*sorted(rng.integers(-size, size, 2).tolist()), int(rng.integers(1, 4)))
            case 3:
                indexers[dim] = slice(None, None, -int(rng.integers(1, 4)))
            case 4:
                indexers[dim] = rng.integers(-size, size, rng.integers(0, 6))
            case 5 | 6:
                indexers[dim] = xr.DataArray(rng.integers(-size, size, shape), dims=dims)
    return indexers


@pytest.mark.parametrize("seed", range(int(os.environ.get("LSIO_RANDOM_SELECTIONS", 6))))
def test_random_selections_are_xarrays(seed, tmp_path):
    rng = np.random.default_rng(seed)
    path = tmp_path / "random.zarr"
    sizes = random_store(rng, path, 2 + seed % 2)
    own = xr.open_dataset(path, engine="lsio")
    theirs = xr.open_dataset(path, engine="zarr", consolidated=False)
    xr.testing.assert_identical(own.load(), theirs.load())
    for _ in range(30):
        own = xr.open_dataset(path, engine="lsio")
        indexers = random_indexers(rng, sizes)
        xr.testing.assert_identical(own.isel(indexers).load(), theirs.isel(indexers))


def test_points_read_only_the_chunks_that_hold_them(tmp_path):
    """Chunks without a point may be broken."""
    values = np.arange(6 * 20 * 20.0).reshape(6, 20, 20)
    ds = xr.Dataset({"v": (("t", "y", "x"), values), "name": (("y", "x"), np.full((20, 20), "abc", object))})
    path = tmp_path / "points.zarr"
    encoding = {"v": {"chunks": (3, 5, 5), "compressors": None}, "name": {"chunks": (5, 5)}}
    ds.to_zarr(path, encoding=encoding, consolidated=False, zarr_format=3)
    kept = {(1, 2), (3, 0)}
    for y, x in itertools.product(range(4), range(4)):
        if (y, x) not in kept:
            (path / f"name/c/{y}/{x}").write_bytes(b"broken")
            for t in range(2):
                (path / f"v/c/{t}/{y}/{x}").write_bytes(b"broken")
    y, x = (xr.DataArray(own, dims="point") for own in ([5, 19, 9, 5], [14, 0, 10, 14]))
    found = xr.open_dataset(path, engine="lsio").isel(y=y, x=x).load()
    xr.testing.assert_identical(found.v.transpose("t", "point"), ds.v.isel(y=y, x=x))
    assert found.name.values.tolist() == ["abc"] * 4


def test_texts_come_as_objects(tmp_path):
    texts = np.array([["a", "", "ü" * 50], ["\U0001f30d", "b", "c"]], object)
    path = tmp_path / "texts.zarr"
    xr.Dataset({"v": (("y", "x"), texts)}).to_zarr(path, encoding={"v": {"chunks": (1, 2)}}, consolidated=False)
    own, theirs = (xr.open_dataset(path, engine=engine, consolidated=False).v for engine in ("lsio", "zarr"))
    assert own.dtype == theirs.dtype
    assert own.values.dtype == theirs.values.dtype
    assert own.values.tolist() == theirs.values.tolist()
    store = lsio._lsio.Store(str(path), [])
    with pytest.raises(BufferError, match="6 objects"):
        store.read_texts("v", [(0, 1, 2), (0, 1, 3)], np.empty(5, object))
    with pytest.raises(BufferError):
        store.read_texts("v", [(0, 1, 2), (0, 1, 3)], np.empty(6, "i8"))


def naive_grid(rows, dims):
    """Cells of rows by a dictionary."""
    labels = [sorted(set(rows[dim])) for dim in dims]
    cells = {tuple(own[dim] for dim in dims): own["v"] for own in (dict(zip(rows, each)) for each in zip(*rows.values()))}
    return labels, np.array([cells.get(key, np.nan) for key in itertools.product(*labels)])


@pytest.mark.parametrize("seed", range(8))
def test_rows_come_to_their_cells(seed):
    rng = np.random.default_rng(seed)
    kinds = {
        "f8": lambda: rng.normal(size=5),
        "f4": lambda: rng.normal(size=4).astype("f4"),
        "i2": lambda: rng.integers(-9, 9, 6).astype("i2"),
        "u1": lambda: rng.integers(0, 200, 3).astype("u1"),
        "M8": lambda: np.datetime64("1969-12-31", "us") + rng.integers(-5, 5, 4) * np.timedelta64(1, "D"),
        "text": lambda: np.array(["b", "a", "ç"], object),
    }
    chosen = rng.permutation(list(kinds))[:3]
    axes = {f"d_{kind}": np.unique(kinds[kind]()) for kind in chosen}
    every = list(itertools.product(*(range(len(own)) for own in axes.values())))
    kept = rng.permutation(len(every))[: max(2, int(len(every) * rng.choice([0.5, 1.0])))]
    rows = {dim: own[[every[at][number] for at in kept]] for number, (dim, own) in enumerate(axes.items())}
    rows["v"] = rng.integers(0, 1000, len(kept))
    dims = list(axes)
    found = lsio.connect().rows(rows).to_xarray(dims)
    labels, cells = naive_grid(rows, dims)
    for dim, own in zip(dims, labels):
        assert sorted(found[dim].values.tolist()) == sorted(np.array(own).astype(found[dim].dtype).tolist())
    if all((found[dim].values[:-1] <= found[dim].values[1:]).all() for dim in dims):
        np.testing.assert_array_equal(found.v.values.ravel(), cells)
    # Whatever the order of labels: each row is where its labels are.
    for at in range(len(kept)):
        place = tuple(int(np.flatnonzero(found[dim].values == rows[dim][at])[0]) for dim in dims)
        assert found.v.values[place] == rows["v"][at]
    assert np.isnan(found.v.values.astype("f8")).sum() == found.v.size - len(kept)


def test_orders_of_labels():
    con = lsio.connect()
    # Labels ascend, and those that are missing come last.
    kept = con.rows({"x": [3.0, np.nan, 1.0, -0.0], "v": [1, 2, 3, 4]}).to_xarray("x")
    assert kept.v.values.tolist() == [4, 3, 1, 2]
    mixed = con.rows({"x": [3, 1, 3], "y": [0, 0, 1], "v": [1, 2, 3]}).to_xarray(["x", "y"])
    assert mixed.x.values.tolist() == [1, 3]
    np.testing.assert_array_equal(mixed.v.values, [[2, np.nan], [1, 3]])
    # But where rows are ordered, they are as rows bring them.
    ordered = con.sql("SELECT * FROM r ORDER BY v", r=con.rows({"x": [3, 1, 2], "v": [2, 3, 1]})).to_xarray("x")
    assert ordered.x.values.tolist() == [2, 3, 1]
    texts = con.sql("SELECT * FROM r ORDER BY v", r=con.rows({"x": ["c", "a", "b"], "v": [2, 3, 1]}))
    assert texts.to_xarray("x").x.values.tolist() == ["b", "c", "a"]
    with pytest.raises(ValueError, match="several rows"):
        con.rows({"x": [1, 1], "v": [1, 2]}).to_xarray("x")
    many = np.arange(5000)
    with pytest.raises(ValueError, match="nearly all of them missing"):
        con.rows({"x": many, "y": many, "v": many}).to_xarray(["x", "y"])


def test_a_fork_between_direct_reads_has_its_own(tmp_path):
    """What was read straight from the drive is still there in a child, and the child reads for itself."""
    values = np.arange(2_000_000, dtype="f4")
    path = tmp_path / "forked.zarr"
    xr.Dataset({"v": ("x", values)}).to_zarr(path, encoding={"v": {"chunks": (500_000,), "compressors": None}}, consolidated=False)
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table(lsio.connect(settings={"lsio.page_cache": "never"}).sql(f"SELECT v FROM '{path}'"))
    child = os.fork()
    if child == 0:
        good = table["v"].to_numpy().sum(dtype="f8") == values.sum(dtype="f8")
        again = lsio.sql(f"SELECT sum(v) AS s FROM '{path}'").to_numpy()["s"][0]
        os._exit(0 if good and again == values.sum(dtype="f8") else 1)
    assert os.waitpid(child, 0)[1] == 0


# Datasets as tables.


def frame(data):
    return data.to_dataframe().reset_index()


@pytest.mark.parametrize("seed", range(6))
def test_datasets_are_tables_of_their_cells(seed, tmp_path, monkeypatch):
    from lsio import _blocks

    rng = np.random.default_rng(seed)
    monkeypatch.setattr(_blocks, "_LOADED", int(rng.integers(1, 200)))
    monkeypatch.setattr(_blocks, "_ROWS", int(rng.integers(1, 50)))
    sizes = {dim: int(rng.integers(1, 9)) for dim in "xyz"}
    data = {}
    for name in ("u", "v", "w"):
        dims = tuple(rng.permutation(list(sizes))[: rng.integers(1, 4)])
        values = rng.normal(size=[sizes[dim] for dim in dims])
        values[rng.random(values.shape) < 0.2] = np.nan
        data[name] = (dims, values.astype(rng.choice(["f4", "f8"])))
    data["n"] = ("x", rng.integers(0, 9, sizes["x"]))
    data["all"] = (tuple(sizes), rng.normal(size=tuple(sizes.values())))
    ds = xr.Dataset(data, {"x": np.arange(sizes["x"]) * 0.5, "name": ("y", np.array(["é"] * sizes["y"], object))})
    ds.to_zarr(tmp_path / "s.zarr", encoding={"all": {"chunks": (2, 3, 4)}}, consolidated=False)
    expected = frame(ds)
    con = lsio.connect()
    lazy = xr.open_dataset(tmp_path / "s.zarr", engine="lsio")
    for given in [ds, lazy, xr.open_dataset(tmp_path / "s.zarr", engine="zarr", consolidated=False, chunks={})]:
        con.register("t", given)
        columns = list(expected.columns)
        quoted = ", ".join(f'"{name}"' for name in columns)
        found = con.sql(f"SELECT {quoted} FROM t ORDER BY x, y, z").to_pandas()
        wanted = expected.sort_values(["x", "y", "z"], ignore_index=True)[columns]
        for name in columns:
            np.testing.assert_array_equal(found[name].to_numpy(), wanted[name].to_numpy(), err_msg=name)
        assert con.sql("SELECT count(*) AS n, count(u) AS u FROM t").to_numpy()["n"][0] == len(expected)
        mean = con.sql('SELECT avg("all") AS m FROM t').to_numpy()["m"][0]
        np.testing.assert_allclose(mean, float(ds["all"].mean()))


def test_columns_that_nobody_asks_for_are_not_loaded(tmp_path):
    ds = xr.Dataset({"good": ("x", np.arange(10.0)), "bad": ("x", np.arange(10.0))})
    ds.to_zarr(tmp_path / "s.zarr", consolidated=False)
    (tmp_path / "s.zarr/bad/c/0").write_bytes(b"broken")
    con = lsio.connect()
    con.register("t", xr.open_dataset(tmp_path / "s.zarr", engine="lsio"))
    assert con.sql("SELECT sum(good) AS s FROM t").to_numpy()["s"][0] == 45
    with pytest.raises(lsio.Error, match="bad"):
        con.sql("SELECT sum(bad) AS s FROM t").to_numpy()
    con.register("a", ds.good)
    assert con.sql("SELECT max(good) AS s, max(x) AS x FROM a").to_numpy() == {"s": 9.0, "x": 9}
    # Other verbs work on it too, and it can be asked again.
    assert con.table("a").limit(3).to_numpy()["good"].tolist() == [0.0, 1.0, 2.0]
    assert con.table("a").limit(3).to_numpy()["good"].tolist() == [0.0, 1.0, 2.0]
