"""What can be wrong with a dataset: the codes of all findings, and which programs trip over each.

One table for the check, its documentation and its tests. Facts behind it: formats.md 1 to 9, whose sections
the entries follow; what Bio-Formats and the published npy2bdv do is tested against these programs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Severity = Literal["error", "warning", "note"]
Outcome = Literal["opens", "opens wrongly", "does not open"]
Program = Literal[
    "BigDataViewer", "BigStitcher <= 2.6", "BigStitcher >= 3.0", "Bio-Formats", "npy2bdv 1.x", "napari"
]
PROGRAMS: tuple[Program, ...] = (
    "BigDataViewer",
    "BigStitcher <= 2.6",
    "BigStitcher >= 3.0",
    "Bio-Formats",
    "npy2bdv 1.x",
    "napari",
)
OUTCOMES: tuple[Outcome, ...] = ("opens", "opens wrongly", "does not open")
"""From the best to the worst."""

GROUPS = {
    "F": "files",
    "X": "the text of the XML",
    "V": "views, as XML and pixels agree on them",
    "T": "transforms",
    "L": "levels",
    "H": "HDF5",
    "N": "N5",
    "Z": "OME-Zarr",
    "P": "pixels",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Attributes
    ----------
    code
        What kind of thing it is; the list is in docs/reference/check-codes.md. Codes keep their meaning.
    severity
        "error" (pixels are lost or not shown, or a program fails), "warning" (something is not as it should be)
        or "note" (worth knowing).
    place
        Where: a line of the XML, a file, a path in the container.
    message
        What was found there.
    remedy
        What can be done.
    """

    code: str
    severity: Severity
    place: str
    message: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A kind of finding. `mended` says whether `--fix` mends it, `bars` whether it keeps the XML from being rewritten.

    `effects` are the programs that trip over it.
    """

    severity: Severity
    title: str
    remedy: str
    mended: bool = False
    bars: bool = False
    effects: Mapping[Program, Outcome] = field(default_factory=dict)


def finding(code: str, place: object, message: str, remedy: str = "") -> Finding:
    """Return a finding of a code; its remedy is that of the code where none is given."""
    known = CODES[code]
    return Finding(
        code=code,
        severity=known.severity,
        place=str(place),
        message=message,
        remedy=remedy or known.remedy,
    )


def _on(outcome: Outcome, *programs: Program) -> dict[Program, Outcome]:
    return dict.fromkeys(programs, outcome)


_BIGSTITCHER: tuple[Program, ...] = ("BigStitcher <= 2.6", "BigStitcher >= 3.0")
_JAVA: tuple[Program, ...] = ("BigDataViewer", *_BIGSTITCHER)
_HDF5: tuple[Program, ...] = (*_JAVA, "Bio-Formats")
_FAILS_JAVA = _on("does not open", *_JAVA)
_FAILS_HDF5 = _on("does not open", *_HDF5)
_FAILS_JAVA_AND_1 = _on("does not open", *_JAVA, "npy2bdv 1.x")
_FAILS_ALL = _on("does not open", *PROGRAMS)
_WRONG_JAVA = _on("opens wrongly", *_JAVA)
_WRONG_HDF5 = _on("opens wrongly", *_HDF5)
_WRONG_ALL = _on("opens wrongly", *PROGRAMS)
_EDIT = "correct the XML in a text editor"
_RESAVE = "npy2bdv convert it into a new dataset"


def _error(title: str, remedy: str, effects: Mapping[Program, Outcome] | None = None, **flags: bool) -> Code:
    return Code(severity="error", title=title, remedy=remedy, effects=effects or {}, **flags)


def _warning(
    title: str, remedy: str, effects: Mapping[Program, Outcome] | None = None, **flags: bool
) -> Code:
    return Code(severity="warning", title=title, remedy=remedy, effects=effects or {}, **flags)


def _note(title: str, remedy: str, effects: Mapping[Program, Outcome] | None = None, **flags: bool) -> Code:
    return Code(severity="note", title=title, remedy=remedy, effects=effects or {}, **flags)


CODES: Mapping[str, Code] = {
    # ------------------------------------------------------------------------------------------ files
    "F01": _error(
        "the pixels are not where the XML says", "put them there, or correct the XML", _FAILS_ALL
    ),
    "F02": _note(
        "pixels lie outside of the XML's folder",
        "move them beside the XML; open datasets of strangers with confine=True",
    ),
    "F03": _error(
        "a recording was interrupted, or still goes on", "npy2bdv recover", _WRONG_ALL
    ),
    "F04": _error("an edit was interrupted", "npy2bdv recover"),
    "F05": _warning(
        "a newer XML could not take its place",
        "another program held the XML; compare the two and rename NAME.xml.new",
    ),
    "F06": _warning(
        "the path of the pixels is not taken by all systems",
        "give the pixels a plain name beside the XML",
    ),
    "F07": _note(
        "pixels that cannot be checked",
        "they are of another program, or on another machine; only the XML was looked at",
        _on("does not open", "Bio-Formats", "npy2bdv 1.x", "napari"),
    ),
    "F08": _note(
        "pixels that need a library which is not installed", 'pip install "npy2bdv[zarr]" and check again'
    ),
    # ---------------------------------------------------------------------------------------- XML, text
    "X01": _error("the XML cannot be read at all", _EDIT, _FAILS_ALL, bars=True),
    "X02": _error("a required element is missing", _EDIT, _FAILS_JAVA_AND_1, bars=True),
    "X03": _error(
        "white space where Java allows none", "write numbers without white space around them", _FAILS_JAVA,
        mended=True,
    ),
    "X04": _error("not the number that is needed", _EDIT, _FAILS_JAVA_AND_1, bars=True),
    "X05": _error(
        'type="relative" is missing', 'add type="relative": without, Java takes the path as absolute',
        _FAILS_JAVA, mended=True,
    ),
    "X06": _error(
        "an id is given twice", "give each its own id; Java keeps the last of them", _WRONG_JAVA, bars=True
    ),
    "X07": _error(
        "an attribute without its <Attributes> block", "add the block with the names", _FAILS_JAVA,
        mended=True,
    ),
    "X08": _warning(
        "an attribute id that its block does not list", "add it to the block; BigStitcher takes 0 for it",
        _on("opens wrongly", *_BIGSTITCHER), mended=True,
    ),
    "X09": _error("an <affine> that is not 12 numbers", _EDIT, _FAILS_JAVA_AND_1),
    "X10": _warning("<name> of a transform in lower case", "write <Name>; Java drops <name>", mended=True),
    "X11": _error(
        "the path of an N5 or OME-Zarr container is not percent-encoded", "write %20 for a blank, and so on",
        _FAILS_JAVA, mended=True,
    ),
    "X12": _error(
        "the path of an HDF5 file is percent-encoded", "write the name as it is",
        _on("does not open", *_HDF5, "npy2bdv 1.x"), mended=True
    ),
    "X13": _warning(
        "BasePath is not '.'", "write '.', and paths relative to the XML",
        _on("does not open", "Bio-Formats", "npy2bdv 1.x"),
    ),
    "X14": _warning("a <location> several times", "keep one; Java reads the first", mended=True),
    "X15": _warning(
        "a PairwiseResult several times", "keep the last; deleted links come back otherwise", mended=True
    ),
    "X16": _error(
        "interest points of BigStitcher before version 2.6 (interestpoints/*.ip.txt)",
        "open and save it in the BigStitcher that wrote it, or remove <ViewInterestPoints>",
        _on("does not open", *_BIGSTITCHER),
    ),
    "X17": _error(
        "a <zgroup> spelt in a way that BigStitcher does not read", "write setup, tp, path and indicies",
        _on("does not open", *_BIGSTITCHER), mended=True,
    ),
    "X18": _error("a transform that Java does not take", _EDIT, _FAILS_JAVA),
    "X19": _warning(
        "the root element begins too late", "remove what stands before <SpimData>",
        _on("does not open", "Bio-Formats"), mended=True,
    ),
    "X20": _note(
        "an attribute that BigStitcher wants is missing", "BigStitcher supplies id 0 for it"
    ),
    "X21": _warning("a setup without its size", "BigStitcher needs it; take it from the data", mended=True),
    "X22": _warning(
        "a setup without a voxel size, or an impossible one", "add <voxelSize>: BigStitcher and scale bars need it"
    ),
    "X23": _warning(
        "entities of an attribute that are not named like it",
        "BigDataViewer cannot save the project; name them like the attribute", mended=True,
    ),
    "X24": _error(
        "time points that Java does not take", _EDIT, _FAILS_JAVA_AND_1, bars=True
    ),
    "X25": _note(
        "ids of setups have gaps", "Bio-Formats and npy2bdv 1.x count setups; number them from 0"
    ),
    "X26": _warning("an entity without a name", "BigStitcher lists by names; add <name>", mended=True),
    "X27": _warning(
        "a part of BigStitcher's sections cannot be saved again", "open it in BigStitcher and make it anew"
    ),
    "X28": _warning("an element twice of which only the first counts", "merge the two",
        _on("does not open", "Bio-Formats"), bars=True),
    "X29": _note(
        "white space around a path", "write the path without it",
        _on("does not open", "Bio-Formats", "npy2bdv 1.x"), mended=True
    ),
    "X30": _error(
        "a document type declaration", "remove it: it can hide other files, and npy2bdv refuses it", bars=True
    ),
    "X31": _error(
        "white space around a whole number", "write the number alone", _FAILS_HDF5, mended=True
    ),
    # ------------------------------------------------------------------------------------------- views
    "V01": _error(
        "a view without a registration", "add its <ViewRegistration>, or list it under <MissingViews>",
        _FAILS_JAVA,
    ),
    "V02": _error(
        "a view without pixels that is not declared missing", "list it under <MissingViews>",
        _WRONG_JAVA, mended=True,
    ),
    "V03": _warning(
        "a view that is declared missing has pixels", "remove it from <MissingViews> if they are good"
    ),
    "V04": _error(
        "the size in the XML is not that of the pixels", "write the size of the pixels",
        _on("opens wrongly", *_BIGSTITCHER), mended=True,
    ),
    "V05": _note("pixels of which the XML knows no view", "add the view, or leave them"),
    "V06": _error(
        "a view without its <zgroup>", "add it, or list the view under <MissingViews>",
        _on("does not open", *_BIGSTITCHER),
    ),
    "V07": _warning("sizes of a setup differ between time points", "one setup has one size", _WRONG_HDF5),
    # -------------------------------------------------------------------------------------- transforms
    "T01": _error(
        "a transform that cannot be inverted", "correct the registration of the view", _WRONG_JAVA
    ),
    "T02": _warning("a transform that can hardly be meant", "look at the view in Fiji, and correct it"),
    "T03": _note(
        "voxels are unequal, and the transform does not say so",
        "the image is shown squeezed; add a calibration",
    ),
    # ------------------------------------------------------------------------------------------ levels
    "L01": _error(
        "a level whose size does not fit its factors", "write the levels anew: " + _RESAVE, _WRONG_JAVA
    ),
    "L02": _error("a level is described, and absent", "write the levels anew: " + _RESAVE, _WRONG_JAVA),
    "L03": _error("factors of levels that cannot be right", "write the levels anew: " + _RESAVE, _WRONG_JAVA),
    "L04": _error("a level or block of an absurd size", _RESAVE, _FAILS_JAVA),
    "L05": _warning(
        "the first level is not the full resolution", "the pixels of full resolution are not in this dataset"
    ),
    # -------------------------------------------------------------------------------------------- HDF5
    "H01": _error(
        "the HDF5 file cannot be opened", "copy it again; if it was being recorded: npy2bdv recover", _FAILS_ALL
    ),
    "H02": _error(
        "resolutions or subdivisions of a setup are missing or not two-dimensional",
        "add them; BigDataViewer opens no view of the file without", _FAILS_JAVA,
    ),
    "H03": _warning(
        "uint16 pixels without the attribute dataType",
        "set dataType: BigDataViewer fails at the first value above 32767",
        mended=True,
    ),
    "H04": _error(
        "uint16 pixels above 32767 without the attribute dataType",
        "set dataType: BigDataViewer fails on these blocks", _on("opens wrongly", *_JAVA), mended=True,
    ),
    "H05": _error(
        "int16 pixels that the attribute dataType calls uint16",
        "remove dataType: BigDataViewer fails at values above 32767", _on("opens wrongly", *_JAVA), mended=True,
    ),
    "H06": _error(
        "pixels of another type than uint16 without the attribute dataType", "set dataType",
        _on("opens wrongly", *_JAVA), mended=True,
    ),
    "H07": _error(
        "the attribute dataType is none of the known names", "it counts as absent; write it right",
        mended=True,
    ),
    "H08": _error(
        "the attribute dataType is not the type of the pixels", "set dataType to what is stored",
        _on("opens wrongly", *_JAVA),
    ),
    "H09": _error(
        "a filter that Java's HDF5 does not have", "npy2bdv convert it with --compression gzip",
        _on("does not open", *_HDF5),
    ),
    "H10": _error(
        "written with libver='latest'", "Java's HDF5 does not see compressed images: " + _RESAVE,
        _on("does not open", *_HDF5),
    ),
    "H11": _warning(
        "subdivisions differ from the chunks", "BigDataServer and old BigDataViewers go by them", mended=True
    ),
    "H12": _error("an image that is none", "a level is a dataset of three dimensions of numbers", _FAILS_HDF5),
    "H13": _error(
        "a link leads to a file that is not there", "put the partition back",
        _WRONG_JAVA | _on("does not open", "Bio-Formats")
    ),
    "H14": _warning(
        "a time point without its group", "Bio-Formats wants one, even for missing views",
        _on("does not open", "Bio-Formats"), mended=True,
    ),
    # ---------------------------------------------------------------------------------------------- N5
    "N01": _error("the N5 container cannot be read", "copy it again", _FAILS_JAVA),
    "N02": _error(
        "a setup without downsamplingFactors or dataType", "add them to its attributes.json", _FAILS_JAVA,
        mended=True,
    ),
    "N03": _error(
        "the setup names another dataType than its images", "write that of the images", _FAILS_JAVA,
        mended=True,
    ),
    "N04": _error("attributes of an image that make none", "copy it again", _FAILS_JAVA),
    "N05": _warning(
        "compression that a bare BigDataViewer lacks", "BigStitcher has it; else use gzip",
        _on("does not open", "BigDataViewer"),
    ),
    "N06": _warning(
        "blosc, which needs a native library", "install libblosc, or use gzip", _FAILS_JAVA
    ),
    "N07": _error("a compression that is not known", "resave it where it can be read", _FAILS_JAVA),
    "N08": _error(
        "attributes_cache.json says something else than the container",
        "remove it: BigDataViewer trusts it more", _WRONG_JAVA, mended=True,
    ),
    "N09": _note(
        "attributes_cache.json lies in the container", "whoever changes the container must remove it"
    ),
    "N10": _warning("compression that npy2bdv does not read", "let Fiji resave it with gzip"),
    # ---------------------------------------------------------------------------------------- OME-Zarr
    "Z01": _error(
        "the folder is no Zarr container", "it needs .zgroup (or zarr.json) at its top",
        _on("does not open", *_BIGSTITCHER), mended=True,
    ),
    "Z02": _error(
        "a view without an OME-Zarr image", "its group needs multiscales, and its levels arrays",
        _on("does not open", *_BIGSTITCHER, "napari"),
    ),
    "Z03": _error(
        "a level without its scale in numbers", "add coordinateTransformations",
        _on("does not open", *_BIGSTITCHER),
    ),
    "Z04": _error(
        "levels that are not named 0, 1, 2 ...", "BigStitcher takes no other names",
        _on("does not open", *_BIGSTITCHER),
    ),
    "Z05": _warning(
        "translations of levels are not those of means", "write (factor - 1) / 2 pixels", mended=True
    ),
    "Z06": _error(
        "compression or filters that Java ignores", "BigStitcher shows garbage: " + _RESAVE,
        _on("opens wrongly", *_BIGSTITCHER),
    ),
    "Z07": _warning(
        "blosc, which needs a native library", "install libblosc, or use zstd or gzip",
        _on("does not open", *_BIGSTITCHER),
    ),
    "Z08": _error(
        "the XML does not say which Zarr it is", 'version="3.1" zarr.version="ZarrV3" for Zarr v3',
        _on("does not open", *_BIGSTITCHER), mended=True,
    ),
    "Z09": _error(
        "an array in Fortran order", "Java takes its axes the other way round: " + _RESAVE,
        _on("opens wrongly", *_BIGSTITCHER),
    ),
    "Z10": _error(
        "axes and indices that leave no stack", "write indicies that choose channel and time",
        _on("does not open", *_BIGSTITCHER),
    ),
    "Z11": _warning(
        "absent chunks are not zero", "Java shows zeros; write the chunks", _on("opens wrongly", *_BIGSTITCHER)
    ),
    "Z12": _error("an array that cannot be read", "copy it again", _on("does not open", *_BIGSTITCHER, "napari")),
    "Z13": _warning("axes are not t, c, z, y, x", "BigStitcher goes by position or by name"),
    "Z14": _error(
        "metadata.args that is no text", "remove it: BigStitcher fails at it", _on("does not open", *_BIGSTITCHER),
        mended=True,
    ),
    "Z15": _warning(
        "Zarr v3 with chunk keys as in v2", "an early reader of Java shows zeros: " + _RESAVE
    ),
    "Z16": _error(
        "the path of a zgroup holds %", "rename the group: Java takes % for a format",
        _on("does not open", *_BIGSTITCHER),
    ),
    # ------------------------------------------------------------------------------------------ pixels
    "P01": _error("pixels that cannot be read", "copy the file again; they are lost otherwise", _WRONG_ALL),
    "P02": _error("chunks are absent", "they are shown as zeros; were they ever written?", _WRONG_ALL),
    "P03": _warning("planes never came", "they are zeros; nothing can bring them back"),
    "P04": _warning("frame numbers have gaps", "the camera counted frames that never came"),
}  # fmt: skip
"""All codes, by group."""
