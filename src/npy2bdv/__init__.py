"""Write, stream, read and edit BigDataViewer / BigStitcher datasets from numpy.

`create` writes a dataset, `open` reads one, `edit` changes one in place, `resave` converts. `BdvWriter` and
`BdvEditor` are the established interface of npy2bdv 1.x.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from npy2bdv.check import check
    from npy2bdv.check.report import Report, Verdict
    from npy2bdv.create import create
    from npy2bdv.dataset import Dataset, open  # noqa: A004
    from npy2bdv.downsample import downsample
    from npy2bdv.editor import Editor, edit
    from npy2bdv.engine import Stats
    from npy2bdv.errors import BdvError, QueueFull
    from npy2bdv.export import export
    from npy2bdv.mend import RecoveredView
    from npy2bdv.merge import Merged, merge
    from npy2bdv.model.affine import Affine
    from npy2bdv.model.box import Box
    from npy2bdv.model.decomposition import Decomposition
    from npy2bdv.model.findings import Finding
    from npy2bdv.model.grid import grid
    from npy2bdv.model.placement import Deskew, Placement, SampleRotation
    from npy2bdv.model.spimdata import ViewId, ViewTransform
    from npy2bdv.npy2bdv import BdvEditor, BdvWriter
    from npy2bdv.plan import Plan, plan
    from npy2bdv.recover import Recovery, recover
    from npy2bdv.repack import Repacked, repack
    from npy2bdv.resave import resave
    from npy2bdv.stream import ViewStream
    from npy2bdv.view import Level, View
    from npy2bdv.views.browser import BrowserView, view_in_browser
    from npy2bdv.views.layers import napari_layers
    from npy2bdv.views.layout import layout
    from npy2bdv.views.preview import preview
    from npy2bdv.writer import DatasetWriter

_HOMES = {
    "Affine": "model.affine",
    "BdvEditor": "npy2bdv",
    "BdvError": "errors",
    "BdvWriter": "npy2bdv",
    "Box": "model.box",
    "BrowserView": "views.browser",
    "Dataset": "dataset",
    "DatasetWriter": "writer",
    "Decomposition": "model.decomposition",
    "Deskew": "model.placement",
    "Editor": "editor",
    "Finding": "model.findings",
    "Level": "view",
    "Merged": "merge",
    "Placement": "model.placement",
    "Plan": "plan",
    "QueueFull": "errors",
    "RecoveredView": "mend",
    "Recovery": "recover",
    "Repacked": "repack",
    "Report": "check.report",
    "SampleRotation": "model.placement",
    "Stats": "engine",
    "Verdict": "check.report",
    "View": "view",
    "ViewId": "model.spimdata",
    "ViewStream": "stream",
    "ViewTransform": "model.spimdata",
    "check": "check",
    "create": "create",
    "downsample": "downsample",
    "edit": "editor",
    "export": "export",
    "grid": "model.grid",
    "layout": "views.layout",
    "merge": "merge",
    "napari_layers": "views.layers",
    "open": "dataset",
    "plan": "plan",
    "preview": "views.preview",
    "recover": "recover",
    "repack": "repack",
    "resave": "resave",
    "view_in_browser": "views.browser",
}

__all__ = [
    "Affine",
    "BdvEditor",
    "BdvError",
    "BdvWriter",
    "Box",
    "BrowserView",
    "Dataset",
    "DatasetWriter",
    "Decomposition",
    "Deskew",
    "Editor",
    "Finding",
    "Level",
    "Merged",
    "Placement",
    "Plan",
    "QueueFull",
    "RecoveredView",
    "Recovery",
    "Repacked",
    "Report",
    "SampleRotation",
    "Stats",
    "Verdict",
    "View",
    "ViewId",
    "ViewStream",
    "ViewTransform",
    "check",
    "create",
    "downsample",
    "edit",
    "export",
    "grid",
    "layout",
    "merge",
    "napari_layers",
    "npy2bdv",
    "open",
    "plan",
    "preview",
    "recover",
    "repack",
    "resave",
    "view_in_browser",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("npy2bdv")
    if name == "npy2bdv":  # the module of 1.x: npy2bdv.npy2bdv.BdvEditor
        return import_module("npy2bdv.npy2bdv")
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'npy2bdv' has no attribute {name!r}") from None
    return getattr(import_module(f"npy2bdv.{home}"), name)


class _Package(ModuleType):
    """Some functions (`resave`, `export` ...) live in modules of the same name: the function is what users get."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
