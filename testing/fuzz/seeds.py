"""Writes the seeds of the fuzz targets, from the stores of the covering matrix.

    python seeds.py

`chunks.json` gets the metadata of arrays, one for each data type, codec, layout and so on; the seeds of
the target `chunk` are their stored chunks behind the number of the array. What fuzzers find is added to
the corpora by hand, under names that don't begin with `seed`.
"""

import json
import struct
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
FIXTURES = HERE.parent.parent / "lsio_core/tests/fixtures"
FACTORS = ("dtype", "codec", "storage", "naming", "unit", "cname", "shuffle", "byteorder", "shape")


def seed(target, number, content):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"seed{number:03}").write_bytes(content)


def consolidated(metadata):
    if metadata["zarr_format"] == 2:
        return {
            "zarr_consolidated_format": 1,
            "metadata": {
                ".zgroup": {"zarr_format": 2},
                "v/.zarray": metadata,
                "v/.zattrs": {"_ARRAY_DIMENSIONS": [f"d{i}" for i in range(len(metadata["shape"]))]},
            },
        }
    inline = {"kind": "inline", "must_understand": False, "metadata": {"v": metadata}}
    return {"zarr_format": 3, "node_type": "group", "consolidated_metadata": inline}


def main():
    for old in (HERE / "corpus").glob("*/seed*"):
        old.unlink()
    cases = json.loads((FIXTURES / "matrix.json").read_text())
    archive = zipfile.ZipFile(FIXTURES / "matrix.zip")
    names = set(archive.namelist())
    seen, stores = set(), []
    for case in cases:
        levels = {(f, case["case"].get(f)) for f in FACTORS}
        # ZFP isn't built unless it is asked for.
        if case["array"] != "a" or levels <= seen or case["case"].get("codec") == "zfpy":
            continue
        folder = f"stores/{case['store']}/a/"
        metadata = next(n for n in (folder + "zarr.json", folder + ".zarray") if n in names)
        rank = len(case["shape"])
        first = lambda prefix, separator: prefix + separator.join(["0"] * rank)
        keys = [first("", "."), first("", "/"), first("c/", "/"), first("c.", "."), "0", "c"]
        chunk = next((folder + k for k in keys if folder + k in names), None)
        if chunk is None:
            continue
        seen |= levels
        number = len(stores)
        store = consolidated(json.loads(archive.read(metadata)))
        stores.append(store)
        seed("chunk", number, struct.pack("<H", number) + archive.read(chunk))
        target = "metadata_v2" if "zarr_consolidated_format" in store else "metadata_v3"
        seed(target, number, json.dumps(store).encode())
    (HERE / "chunks.json").write_text(
        "[\n" + ",\n".join(json.dumps(s, separators=(",", ":")) for s in stores) + "\n]\n"
    )

    # Attributes, as groups and variables of the trees have them.
    number = 0
    for name in sorted(names):
        if name.endswith((".zattrs", "zarr.json")) and not name.startswith("stores/m0"):
            document = json.loads(archive.read(name))
            attributes = document if name.endswith(".zattrs") else document.get("attributes", {})
            text = json.dumps(attributes).encode()
            if len(attributes) > 1 and text not in seen:
                seen.add(text)
                seed("attributes", number, text)
                number += 1

    entries = [(0, 10), (10, 20), (2**64 - 1, 2**64 - 1), (30, 0)]
    for number, order in enumerate("<>"):
        index = b"".join(struct.pack(order + "QQ", *entry) for entry in entries)
        seed("shard_index", number, struct.pack("<Q", 100) + index)

    for number, path in enumerate(sorted((HERE.parent.parent / "lsio_datafusion/tests/fixtures").glob("*.zip"))):
        seed("archive", number, path.read_bytes())
    print(len(stores), "arrays")


main()
