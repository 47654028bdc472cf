"""`npy2bdv.check`: each fault of the catalogue is found, sound datasets are clean, and what can be mended is."""

import hashlib
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from faults import FAULTS, Fault, edited, sound

import npy2bdv
from npy2bdv.cli import main
from npy2bdv.errors import InUseError
from npy2bdv.model.findings import CODES, GROUPS, PROGRAMS
from npy2bdv.storage.journal import Journal, Lock


def everything_in(folder: Path) -> dict[str, str]:
    return {
        each.relative_to(folder).as_posix(): hashlib.sha256(each.read_bytes()).hexdigest()
        for each in sorted(folder.rglob("*"))
        if each.is_file()
    }


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_is_found(fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fault.make(tmp_path, monkeypatch)
    before = everything_in(tmp_path)
    report = npy2bdv.check(path, pixels=fault.pixels)
    assert fault.code in report.codes()
    assert set(report.codes()) <= {fault.code} | fault.also
    for each in report.findings:
        assert each.place
        assert each.message
        assert each.remedy
    assert everything_in(tmp_path) == before


def test_every_code_has_a_fault_and_there_are_many() -> None:
    assert {fault.code for fault in FAULTS} == set(CODES)
    assert len(FAULTS) >= 40
    assert {code[0] for code in CODES} == set(GROUPS)


# ------------------------------------------------------------------------------------ sound datasets


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "int32"])
@pytest.mark.parametrize(
    "options",
    [
        {"format": "hdf5", "compression": None},
        {"format": "hdf5", "compression": "gzip"},
        {"format": "n5", "compression": "gzip"},
        {"format": "n5", "compression": None},
        {"format": "omezarr"},
        {"format": "omezarr", "compression": "gzip"},
        {"format": "omezarr", "zarr_version": 3},
        {"format": "omezarr", "zarr_version": 3, "compression": None},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_what_we_write_is_clean(options: dict[str, Any], dtype: str, tmp_path: Path) -> None:
    report = npy2bdv.check(sound(tmp_path, dtype=dtype, **options), pixels=True)
    assert report.findings == ()
    assert report.is_clean
    assert report.looked_at["views"] == 2
    assert report.looked_at["levels"] == 4
    assert report.looked_at["bytes"] == 2 * (6 * 10 * 14 + 6 * 5 * 7) * np.dtype(dtype).itemsize


def test_a_recording_of_all_kinds_of_labels_transforms_and_missing_views_is_clean(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "scan.xml", levels="auto", microscope="m", user="u") as writer:
        for channel in ("488 nm", "Rückseite"):
            for tile in range(2):
                setup = writer.add_setup(
                    shape=(8, 20, 30),
                    channel=channel,
                    tile=tile,
                    angle=90 * tile,
                    voxel_size_xyz=(0.4, 0.4, 2.0),
                    camera="Flash4",
                    exposure_time=10,
                    transform=npy2bdv.Affine.translation((30 * tile, 0, 0)),
                )
                for time in range(3):
                    if (time, setup) != (1, 2):
                        writer.write(np.full((8, 20, 30), 60_000, "uint16"), setup=setup, time=time)
    report = npy2bdv.check(tmp_path / "scan.xml", pixels=True)
    assert report.findings == ()


def test_the_established_interface_is_clean(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        writer = npy2bdv.BdvWriter("classic.h5", nchannels=2, ntiles=2, subsamp=((1, 1, 1), (1, 2, 2)))
        for channel in range(2):
            for tile in range(2):
                writer.append_view(
                    np.ones((4, 20, 20), "uint16"),
                    channel=channel,
                    tile=tile,
                    voxel_size_xyz=(1, 1, 3),
                    calibration=(1, 1, 3),
                )
        writer.write_xml()
        writer.close()
    report = npy2bdv.check(tmp_path / "classic.xml", pixels=True)
    assert report.findings == ()
    verdicts = {each.program: each.verdict for each in report.verdicts}
    assert verdicts["npy2bdv 1.x"] == "opens"
    assert verdicts["Bio-Formats"] == "opens wrongly"  # several channels, several setups for each


REAL = {
    "java/A_hdf5/dataset.xml": set(),
    "java/C_n5/dataset.xml": set(),
    "java/C_n5/bigstitcher.xml": set(),
    "java/D_hdf5_float32/dataset.xml": {"X20"},  # BigDataViewer's exporter knows channels only
    "java/G_hdf5_loopback/dataset.xml": {"X20"},
    "java/H_n5_types/dataset.xml": {"X20"},
    "kidney/kidney.xml": set(),
    "kidney/kidney_v1.xml": set(),
    # only their XMLs are there
    "bigstitcher/bigstitcher_0.xml": {"F01", "X03", "X08", "X29", "V01"},
    "bigstitcher/bigstitcher_1.xml": {"F01"},
    "bigstitcher/bigstitcher_4.xml": {"F01"},
}


@pytest.mark.parametrize("name", REAL)
def test_what_others_wrote_gives_the_findings_that_are_true(name: str, real_data: Path) -> None:
    report = npy2bdv.check(real_data / name, pixels=True)
    assert set(report.codes()) == REAL[name]


# -------------------------------------------------------------------------------------------- as one


def test_many_faults_of_one_xml_are_found_in_one_pass(tmp_path: Path) -> None:
    path = edited(
        sound(tmp_path),
        ('<hdf5 type="relative">', "<hdf5>"),
        ("<id>1</id>", "<id> 1</id>"),
        ("<size>14 10 6</size>", "<size>14 10.0 6</size>"),
        ("<tile>1</tile>", "<tile>9</tile>"),
        ('<Attributes name="angle">.*?</Attributes>', ""),
        ("<Name>calibration</Name>", "<name>calibration</name>"),
        ("<affine>[^<]*</affine>", "<affine>1 0 0 0 1 0 0 0 1</affine>"),
        ('<ViewRegistration timepoint="0" setup="1">.*?</ViewRegistration>', ""),
        ("<last>0</last>", "<last>1</last>"),
    )
    codes = set(npy2bdv.check(path).codes())
    assert {"X31", "X04", "X05", "X07", "X08", "X09", "X10", "V01", "V02", "H14"} <= codes


def test_of_very_many_findings_of_one_code_some_are_listed(tmp_path: Path) -> None:
    path = edited(sound(tmp_path), ("<last>0</last>", "<last>3000</last>"))
    report = npy2bdv.check(path)
    of_code = [each for each in report.findings if each.code == "V01"]
    assert len(of_code) == 1001
    assert of_code[-1].message == "5000 more like these"


# ------------------------------------------------------------------------------------------- mending


def pixels_of(path: Path) -> dict[Any, Any]:
    """All pixels that can be read, by view and level."""
    try:
        with npy2bdv.open(path) as dataset:
            return {
                (view.id, level): view.level(level)[...]
                for view in dataset
                if dataset.container.has(view.id)
                for level in range(view.n_levels)
                if dataset.container.has(view.id, level)
            }
    except npy2bdv.BdvError:
        return {}


MENDED = [fault for fault in FAULTS if CODES[fault.code].mended]


@pytest.mark.parametrize("fault", MENDED, ids=lambda fault: fault.name)
def test_what_can_be_mended_is_clean_afterwards(
    fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fault.make(tmp_path, monkeypatch)
    text, pixels, before = path.read_bytes(), pixels_of(path), everything_in(tmp_path)
    report = npy2bdv.check(path, pixels=fault.pixels, fix=True)
    assert fault.code in {each.code for each in report.mended}
    assert fault.code not in report.codes()
    # what cannot be mended is still told of, and nothing new came up
    left = {code for code in fault.also if not CODES[code].mended}
    assert set(report.codes()) <= left
    assert set(npy2bdv.check(path, pixels=fault.pixels).codes()) <= left
    after = pixels_of(path)
    for key, old in pixels.items():
        np.testing.assert_array_equal(after[key], old)
    if path.read_bytes() != text:
        assert path.with_name("scan.xml~1").read_bytes() == text
    else:
        assert everything_in(tmp_path) != before


@pytest.mark.parametrize(
    "fault", [fault for fault in FAULTS if not CODES[fault.code].mended], ids=lambda fault: fault.name
)
def test_what_cannot_be_mended_is_left_as_it_is(
    fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fault.make(tmp_path, monkeypatch)
    before = everything_in(tmp_path)
    report = npy2bdv.check(path, fix=True, pixels=fault.pixels)
    assert fault.code in report.codes()
    if not any(CODES[code].mended for code in fault.also):
        assert report.mended == ()
        assert everything_in(tmp_path) == before


def test_an_xml_that_says_a_thing_twice_is_not_rewritten(tmp_path: Path) -> None:
    path = edited(
        sound(tmp_path),
        ("<Name>calibration</Name>", "<name>calibration</name>"),
        ("</ViewRegistrations>", '<ViewRegistration timepoint="0" setup="0"/></ViewRegistrations>'),
    )
    text = path.read_bytes()
    report = npy2bdv.check(path, fix=True)
    assert {"X06", "X10"} <= set(report.codes())
    assert report.mended == ()
    assert path.read_bytes() == text


def test_an_interrupted_recording_is_not_mended(tmp_path: Path) -> None:
    path = edited(sound(tmp_path), ("<Name>calibration</Name>", "<name>calibration</name>"))
    Journal.of(path.with_suffix(".h5")).close(remove=False)
    before = everything_in(tmp_path)
    assert npy2bdv.check(path, fix=True).mended == ()
    assert everything_in(tmp_path) == before


def test_what_is_being_written_is_not_mended(tmp_path: Path) -> None:
    path = sound(tmp_path)
    with h5py.File(path.with_suffix(".h5"), "r+") as file:
        file["s01/subdivisions"][0] = (3, 3, 3)
    lock = Lock(path.with_suffix(".h5"))
    try:
        with pytest.raises(InUseError, match="is being written by"):
            npy2bdv.check(path, fix=True)
    finally:
        lock.release()


# ------------------------------------------------------------------------------------------- command


def test_exit_codes_and_what_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = sound(tmp_path)
    assert main(["check", str(path), "--pixels"]) == 0
    shown = capsys.readouterr().out
    assert "nothing is wrong; 2 views, 4 levels, all pixels" in shown
    for program in PROGRAMS:
        assert program in shown

    edited(path, ("<tile>1</tile>", "<tile>9</tile>"))
    assert main(["check", str(path)]) == 2
    shown = capsys.readouterr().out
    assert "1 warning" in shown
    assert "X08  an attribute id that its block does not list" in shown
    assert "(--fix does it)" in shown

    edited(path, ("<id>1</id>", "<id> 1 </id>"))
    assert main(["check", str(path)]) == 1
    assert "Errors" in capsys.readouterr().out

    assert main(["check", str(path), "--fix"]) == 0
    shown = capsys.readouterr().out
    assert "Mended" in shown
    assert "X31" in shown
    assert main(["check", str(tmp_path / "none.xml")]) == 1
    assert "there is no XML" in capsys.readouterr().err


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = edited(sound(tmp_path), ("<tile>1</tile>", "<tile>9</tile>"))
    assert main(["check", str(path), "--json", "--pixels"]) == 2
    said = json.loads(capsys.readouterr().out)
    assert said == npy2bdv.check(path, pixels=True).to_dict()
    assert said["clean"] is False
    (found,) = said["findings"]
    assert found.keys() == {"code", "severity", "place", "message", "remedy"}
    assert [each["program"] for each in said["programs"]] == list(PROGRAMS)


def test_many_places_are_cut_unless_all_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = edited(sound(tmp_path), ("<last>0</last>", "<last>9</last>"))
    main(["check", str(path)])
    shown = capsys.readouterr().out
    assert "--all lists them" in shown
    main(["check", str(path), "--all"])
    assert len(capsys.readouterr().out) > len(shown)
