"""Read a dataset with pybdv and tell what was seen.

    python -I read_pybdv.py DATASET.xml FOLDER

FOLDER gets `seen.json` and the arrays that it names, with the bits as pybdv returns them (uint16 as int16).
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from pybdv import metadata, util  # type: ignore[import-not-found]


def main(xml: str, folder: Path) -> None:
    data = metadata.get_data_path(xml, return_absolute_path=True)
    first, last = metadata.get_time_range(xml)
    views = [
        read_view(xml, data, setup, time, folder)
        for time in range(first, last + 1)
        for setup in metadata.get_setup_ids(xml)
        if is_present(data, setup, time)
    ]
    seen = {"format": metadata.get_bdv_format(xml), "views": views}
    (folder / "seen.json").write_text(json.dumps(seen), encoding="utf-8")


def is_present(data: str, setup: int, time: int) -> bool:
    with util.open_file(data, "r") as file:
        return util.get_key(is_h5(data), timepoint=time, setup_id=setup, scale=0) in file


def is_h5(data: str) -> bool:
    return data.endswith(".h5")


def read_view(xml: str, data: str, setup: int, time: int, folder: Path) -> dict[str, Any]:
    """Save every level of one view; tell sizes, transforms (outermost first) and attributes."""
    names = []
    for level in range(util.get_number_of_scales(data, time, setup)):
        names.append(f"{time}_{setup}_{level}.npy")
        with util.open_file(data, "r") as file:
            np.save(folder / names[-1], file[util.get_key(is_h5(data), time, setup, level)][:])
    return {
        "time": time,
        "setup": setup,
        "levels": names,
        "factors": util.get_scale_factors(data, setup),
        "transforms": list(metadata.get_affine(xml, setup, time).values()),
        "voxel_size": metadata.get_resolution(xml, setup),
        "shape": metadata.get_size(xml, setup),
        "unit": metadata.get_unit(xml, setup),
        "name": metadata.get_name(xml, setup),
        "attributes": metadata.get_attributes(xml, setup),
    }


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
