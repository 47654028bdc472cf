"""Giving the space back that an HDF5 file holds: the copy is the same to every reader, and smaller."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import npy2bdv
from npy2bdv.cli import main
from npy2bdv.errors import FormatError, InUseError, InvalidInputError, NotFoundError, WriteError
from npy2bdv.storage import packing
from npy2bdv.storage.journal import Lock

SHAPE = (16, 64, 64)


def make(path: Path, compression: str | None = None, times: int = 4) -> Path:
    rng = np.random.default_rng(0)
    with npy2bdv.create(
        path, levels=((1, 1, 1), (1, 2, 2)), chunks=(4, 32, 32), compression=compression
    ) as writer:
        setup = writer.add_setup(shape=SHAPE)
        for t in range(times):
            writer.write(rng.integers(1, 500, SHAPE, "uint16"), setup=setup, time=t)
    return path.with_suffix(".h5")


def with_holes(pixels: Path) -> None:
    with h5py.File(pixels, "r+") as file:
        del file["t00001/s00"], file["t00002/s00"]


def dump(pixels: Path) -> dict[str, Any]:
    """What plain h5py finds in a file."""
    found: dict[str, Any] = {}

    def look(name: str, each: h5py.HLObject) -> None:
        attributes = {key: np.asarray(value).tolist() for key, value in each.attrs.items()}
        if isinstance(each, h5py.Dataset):
            found[name] = (
                each.shape, each.dtype, each.chunks, each.maxshape, each.compression, each.compression_opts,
                each.shuffle, each.id.get_num_chunks() if each.chunks else 0, np.asarray(each[()]).tolist(), attributes,
            )  # fmt: skip
        else:
            found[name] = attributes

    with h5py.File(pixels) as file:
        file.visititems(look)
        found["/"] = dict(file.attrs)
    return found


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
@pytest.mark.filterwarnings("ignore:compression 'lzf'")
def test_space_of_removed_views_is_given_back(compression: str | None, tmp_path: Path) -> None:
    pixels = make(tmp_path / "a.xml", compression)
    with_holes(pixels)
    before = dump(pixels)
    size = pixels.stat().st_size
    told: list[tuple[int, int]] = []
    done = npy2bdv.repack(tmp_path / "a.xml", progress=lambda *each: told.append(each))
    assert (done.path, done.bytes_before - done.bytes_after) == (pixels, done.saved)
    assert done.saved > 0.4 * size
    assert pixels.stat().st_size < 0.6 * size
    assert told
    assert all(done <= total for done, total in told)
    assert dump(pixels) == before
    assert sorted(os.listdir(tmp_path)) == ["a.h5", "a.xml"]
    again = digest(pixels)
    assert npy2bdv.repack(pixels).saved == 0
    assert digest(pixels) == again, "where there is nothing to be saved the file stays"


def test_chunks_are_copied_as_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No filter runs: neither is a chunk decompressed, nor is it compressed again."""
    pixels = make(tmp_path / "a.xml", "gzip")
    with_holes(pixels)
    with h5py.File(pixels) as file:
        image = file["t00003/s00/0/cells"]
        before = [image.id.read_direct_chunk((z, y, x)) for z in (0, 4) for y in (0, 32) for x in (0, 32)]
    npy2bdv.repack(pixels)
    with h5py.File(pixels) as file:
        image = file["t00003/s00/0/cells"]
        after = [image.id.read_direct_chunk((z, y, x)) for z in (0, 4) for y in (0, 32) for x in (0, 32)]
    assert after == before


def test_all_that_other_programs_keep_in_a_file_stays(tmp_path: Path) -> None:
    pixels = make(tmp_path / "a.xml")
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["there"] = np.arange(5)
    with h5py.File(pixels, "r+") as file:
        file.attrs["note"] = "kept"
        file.attrs["numbers"] = np.arange(3, dtype=">i2")
        file["t00000"].attrs["acquired"] = np.array(["10:00", "10:05"], dtype=object)
        file["t00000/s00/0/cells"].attrs["element_size_um"] = (1.0, 0.4, 0.4)
        file["text"] = "a scalar text"
        file["table"] = np.array([(1, 2.5, b"x")], dtype=[("a", "i4"), ("b", "f8"), ("c", "S3")])
        file["ragged"] = np.array([np.arange(2), np.arange(3)], dtype=h5py.vlen_dtype("i4"))
        file.create_dataset("empty", data=h5py.Empty("f4"))
        file.create_dataset("unwritten", (100, 100), "f4", chunks=(10, 10), fillvalue=7)
        file.create_dataset("scaled", data=np.arange(64).reshape(8, 8), chunks=(4, 4), scaleoffset=0)
        file["hard"] = file["t00000/s00/0/cells"]
        file["cycle/inner"] = 1
        file["cycle/back"] = file["cycle"]
        file["soft"] = h5py.SoftLink("/t00000/s00")
        file["out"] = h5py.ExternalLink("other.h5", "/there")
        file["kind"] = np.dtype("f4")
        tracked = file.create_group("tracked", track_order=True)
        for name in "zay":
            tracked[name] = 0
    with_holes(pixels)
    assert npy2bdv.repack(pixels).saved > 0
    with h5py.File(pixels) as file:
        assert file.attrs["note"] == "kept"
        assert file.attrs["numbers"].dtype == ">i2"
        assert file["t00000"].attrs["acquired"].tolist() == ["10:00", "10:05"]
        assert file["t00000/s00/0/cells"].attrs["element_size_um"].tolist() == [1.0, 0.4, 0.4]
        assert file["text"].asstr()[()] == "a scalar text"
        assert file["table"][0].tolist() == (1, 2.5, b"x")
        assert [each.tolist() for each in file["ragged"][()]] == [[0, 1], [0, 1, 2]]
        assert file["empty"].shape is None
        assert (file["unwritten"][()] == 7).all()
        assert file["unwritten"].id.get_num_chunks() == 0
        assert (file["scaled"][()] == np.arange(64).reshape(8, 8)).all()
        assert file["hard"] == file["t00000/s00/0/cells"], "one object under two names"
        assert file["cycle/back"] == file["cycle"]
        assert file.get("soft", getlink=True).path == "/t00000/s00"
        assert file["out"][()].tolist() == [0, 1, 2, 3, 4]
        assert isinstance(file["kind"], h5py.Datatype)
        assert [*file["tracked"]] == ["z", "a", "y"]


def test_space_that_was_never_written_stays_free(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.xml", chunks=(4, 256, 256)) as writer:
        for tile in range(2):
            setup = writer.add_setup(shape=(400, 256, 256), tile=tile)
            stream = writer.stream(setup=setup)
            stream.append(np.ones((256, 256), "uint16"))
    pixels = tmp_path / "a.h5"
    with h5py.File(pixels, "r+") as file:
        del file["t00000/s01"]
    npy2bdv.repack(pixels)
    assert packing.stored_bytes(pixels) > 50e6
    if hasattr(os.stat_result, "st_blocks"):
        assert 512 * pixels.stat().st_blocks < 2e6
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        view = dataset.view(setup=0)
        assert (view[0] == 1).all()
        assert not view[1:].any()


@pytest.mark.parametrize("name", ["A_hdf5", "D_hdf5_float32", "G_hdf5_loopback"])
def test_files_written_by_java(name: str, real_data: Path, tmp_path: Path) -> None:
    shutil.copytree(real_data / "java" / name, tmp_path / "copy")
    (pixels,) = (tmp_path / "copy").glob("*.h5")
    with h5py.File(pixels, "r+") as file:
        file["ballast"] = np.random.default_rng(0).random(100_000)
        file["last"] = 1
    with h5py.File(pixels, "r+") as file:
        del file["ballast"]
    before = dump(pixels)
    assert npy2bdv.repack(tmp_path / "copy" / "dataset.xml").saved > 500_000
    assert dump(pixels) == before


def test_a_partitioned_master_keeps_its_links(tmp_path: Path) -> None:
    part = make(tmp_path / "part.xml", times=1)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["ballast"] = np.zeros(100_000)
        for k in range(2):
            file[f"t00000/s00/{k}/cells"] = h5py.ExternalLink("part.h5", f"t00000/s00/{k}/cells")
        file.copy(h5py.File(part)["s00"], "s00")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["ballast"]
    before = digest(part)
    assert npy2bdv.repack(tmp_path / "a.h5").saved > 500_000
    assert digest(part) == before
    with h5py.File(tmp_path / "a.h5") as file:
        assert isinstance(file.get("t00000/s00/0/cells", getlink=True), h5py.ExternalLink)
        assert file["t00000/s00/0/cells"].shape == SHAPE


# ------------------------------------------------------------------------------------------- refusals


def refused(pixels: Path, kind: type[Exception], match: str) -> None:
    before = {each.name: digest(each) for each in pixels.parent.iterdir() if each.is_file()}
    with pytest.raises(kind, match=match):
        npy2bdv.repack(pixels)
    assert {each.name: digest(each) for each in pixels.parent.iterdir() if each.is_file()} == before


def test_what_cannot_be_repacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = make(tmp_path / "a.xml", times=1)
    refused(tmp_path / "gone.h5", NotFoundError, "there is no HDF5 file")
    refused(tmp_path / "gone.xml", NotFoundError, "there is no XML")
    refused(tmp_path / "a.n5", InvalidInputError, "is no HDF5 file; only these hold space")
    (tmp_path / "text.h5").write_text("no HDF5")
    refused(tmp_path / "text.h5", FormatError, "cannot be opened as HDF5")
    (tmp_path / "a.h5.journal").touch()
    refused(pixels, FormatError, "was interrupted")
    (tmp_path / "a.h5.journal").unlink()
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10, 0, 10))
    refused(pixels, WriteError, "GB are free in .* make room")


def test_references_to_objects_are_refused(tmp_path: Path) -> None:
    pixels = make(tmp_path / "a.xml", times=1)
    with h5py.File(pixels, "r+") as file:
        file["t00000"].attrs["axes"] = np.array([file["s00"].ref], dtype=h5py.ref_dtype)
    refused(pixels, FormatError, "holds references to objects")
    with h5py.File(pixels, "r+") as file:
        del file["t00000"].attrs["axes"]
        file["refs"] = np.array([file["s00"].ref], dtype=h5py.ref_dtype)
    refused(pixels, FormatError, "holds references to objects")


def test_a_file_that_is_being_written(tmp_path: Path) -> None:
    pixels = make(tmp_path / "a.xml")
    with_holes(pixels)
    lock = Lock(pixels)
    with pytest.raises(InUseError, match="is being written"):
        npy2bdv.repack(pixels)
    lock.release()
    assert npy2bdv.repack(pixels).saved > 0


@pytest.mark.posix  # there it is seen when the file cannot be replaced
def test_a_file_that_is_open_in_another_program(tmp_path: Path) -> None:
    pixels = make(tmp_path / "a.xml")
    with_holes(pixels)
    holder = "import h5py, sys; f = h5py.File(sys.argv[1], 'r'); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(pixels)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        refused(pixels, InUseError, "is open in another program")
        process.communicate(b"")
    assert npy2bdv.repack(pixels).saved > 0


def test_a_target_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, where another program has the file open."""
    pixels = make(tmp_path / "a.xml")
    with_holes(pixels)

    def held(source: Path, target: Path) -> None:
        raise PermissionError(13, "it is being used by another process", str(target))

    monkeypatch.setattr(sys.modules["npy2bdv.repack"], "move", held)
    refused(pixels, InUseError, "cannot be replaced")


def test_a_copy_that_differs_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = make(tmp_path / "a.xml")
    with_holes(pixels)
    wrongs = {"pixels": "the chunk that begins at", "object": "the same objects", "note": "attributes"}
    for where, message in wrongs.items():

        def spoil(source: Path, target: Path, progress: Any, where: str = where) -> None:
            packing.copy_packed(source, target, progress)
            with h5py.File(target, "r+") as file:
                if where == "pixels":
                    file["t00003/s00/1/cells"][3, 3, 3] ^= 1
                elif where == "object":
                    del file["t00003/s00/1"]
                else:
                    file["s00"].attrs["dataType"] = "float32"

        monkeypatch.setattr(sys.modules["npy2bdv.repack"], "copy_packed", spoil)
        refused(pixels, FormatError, message)


def test_a_kill_leaves_the_one_or_the_other(tmp_path: Path) -> None:
    pixels = make(tmp_path / "a.xml", times=6)
    with_holes(pixels)
    before = dump(pixels)
    code = "import npy2bdv, sys; print('now', flush=True); npy2bdv.repack(sys.argv[1])"
    for pause in (0.0, 0.02, 0.05, 0.1):
        with subprocess.Popen([sys.executable, "-c", code, str(pixels)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(pause)
            process.kill()
        assert dump(pixels) == before
    npy2bdv.repack(pixels)
    assert dump(pixels) == before
    assert [each for each in os.listdir(tmp_path) if "part" in each] == []


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = make(tmp_path / "a.xml")
    with_holes(pixels)
    assert main(["repack", str(tmp_path / "a.xml")]) == 0
    said = capsys.readouterr().out
    assert f"{pixels}: " in said
    assert "MB less than before" in said
    assert main(["repack", str(pixels)]) == 0
    assert "nothing to be given back" in capsys.readouterr().out
    assert main(["repack", str(tmp_path / "b.n5")]) == 1
    assert "is no HDF5 file" in capsys.readouterr().err
