"""A dataset in neuroglancer, in a browser on this machine."""

from __future__ import annotations

import html
import math
import secrets
import threading
import webbrowser
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from npy2bdv.errors import InvalidInputError
from npy2bdv.model.box import Box
from npy2bdv.model.units import convert
from npy2bdv.views.chunks import ChunkServer, Source
from npy2bdv.views.shown import all_shown

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from numpy.typing import NDArray

    from npy2bdv.dataset import Dataset
    from npy2bdv.model.affine import Affine
    from npy2bdv.views.shown import Shown

_SHADER = """#uicontrol invlerp contrast
#uicontrol vec3 color color
void main() {
  emitRGB(color * contrast());
}
"""
_COLORS = {
    "gray": "#ffffff", "green": "#00ff00", "magenta": "#ff00ff", "cyan": "#00ffff", "yellow": "#ffff00",
    "red": "#ff0000", "blue": "#0000ff",
}  # fmt: skip
_SCREEN = 500.0  # pixels that the world is to fit into
_running: set[BrowserView] = set()
_place = ("", 0)  # host and port of the page's server, of which there is one for all that run
_guard = threading.Lock()


class BrowserView:
    """A dataset that is shown in a browser until `close`; made by `npy2bdv.view_in_browser`.

    Attributes
    ----------
    url
        The address of the page. Who knows it sees the dataset.
    viewer
        neuroglancer's viewer, whose state (layers, position, layout) may be read and changed.
    """

    def __init__(self, url: str, viewer: Any, chunks: ChunkServer) -> None:
        self.url, self.viewer, self._chunks = url, viewer, chunks

    def close(self) -> None:
        """Stop the servers; the page shows no more. A second call does nothing."""
        with _guard:
            if self not in _running:
                return
            _running.discard(self)
            if not _running:
                import neuroglancer

                neuroglancer.stop()
        self._chunks.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<BrowserView {self.url}>"

    def _repr_html_(self) -> str:
        return f'<a href="{html.escape(self.url)}" target="_blank">Look at it in the browser</a>'


def view_in_browser(
    dataset: Dataset, *, open_browser: bool = True, host: str = "127.0.0.1", port: int = 0
) -> BrowserView:
    """Show a dataset in a browser, by neuroglancer (``pip install "npy2bdv[view]"``).

    Every setup is a layer under its whole affine, coloured by channel, with a contrast from its coarsest level; where
    transforms change with time there is a layer for each run of time points. Coarse levels come first, and only what is
    looked at is read. Lengths are those of the voxel sizes; time is an axis of its own.

    Parameters
    ----------
    dataset
        The dataset. It has to stay open while it is looked at.
    open_browser
        Whether a browser is started. Without, follow `BrowserView.url`.
    host
        The address that is listened at. Only programs on this machine reach the default. Whoever reaches another one
        and knows the address of the page, which holds a random token, sees the dataset.
    port
        Where the page is; its pixels come from the next port. 0: any two that are free. While another view runs, its
        page's host and port are those of all.

    Returns
    -------
    :
        What is closed in the end; also a context manager.

    Raises
    ------
    InvalidInputError
        If neuroglancer is not installed, the dataset has no views, a port cannot be used, or another view runs at
        another host or port.

    Examples
    --------
    .. code-block:: python

        with npy2bdv.open("scan.xml") as dataset, npy2bdv.view_in_browser(dataset):
            input("Enter ends it")
    """
    global _place
    try:
        import neuroglancer
    except ImportError:
        raise InvalidInputError(
            'the browser view needs neuroglancer, which is not installed: pip install "npy2bdv[view]"'
        ) from None
    if not 0 <= port < 2**16 - 1:
        raise InvalidInputError(f"port={port!r} cannot be; give 0 to 65534")
    shown = all_shown(dataset)
    if not shown:
        raise InvalidInputError("the dataset has no view that is not missing; there is nothing to look at")
    token = secrets.token_urlsafe(24)
    sources = {f"s{each.setup}-t{each.first_time}": Source(each) for each in shown}
    with _guard:
        if _running and (host != _place[0] or port not in (0, _place[1])):
            raise InvalidInputError(
                f"host={host!r}, port={port} cannot be: a view that is not closed has its page at host={_place[0]!r}, "
                f"port={_place[1]}, as all that run at once; close it, or give its host and port=0"
            )
        try:
            chunks = ChunkServer(sources, token, host, port + 1 if port and not _running else 0)
        except OSError as error:
            raise _taken(host, port, error) from error
        try:
            if not _running:
                neuroglancer.set_server_bind_address(host, port)
            viewer = neuroglancer.Viewer(token=token)
            url = str(viewer.get_viewer_url())
            viewer.set_state(_state(neuroglancer, shown, chunks.url(urlsplit(url).hostname or host)))
        except BaseException as error:
            chunks.close()
            if isinstance(error, OSError):
                raise _taken(host, port, error) from error
            raise
        view = BrowserView(url, viewer, chunks)
        _running.add(view)
        _place = host, urlsplit(url).port or 0
    if open_browser:
        webbrowser.open(url)
    return view


def _taken(host: str, port: int, error: OSError) -> InvalidInputError:
    which = f"ports {port} and {port + 1}" if port else "a port"
    return InvalidInputError(f"{which} of {host} cannot be used ({error}); give another one, or 0 for any")


def _state(neuroglancer: Any, shown: list[Shown], url: str) -> Any:
    """Return what neuroglancer shows: layers, where it looks, and how close."""
    space = _space(neuroglancer, shown)
    state = neuroglancer.ViewerState()
    state.dimensions = space
    box = _world_box(shown)
    state.position = [*((low + high) / 2 for low, high in zip(box.min_xyz, box.max_xyz, strict=True)), 0.0]
    state.cross_section_scale = max(box.size_xyz) / _SCREEN or 1.0
    state.projection_scale = 1.5 * max(box.size_xyz) or 1.0
    state.layout = "4panel"
    state.cross_section_background_color = "#000000"
    for each in shown:
        state.layers.append(
            name=each.name,
            layer=neuroglancer.ImageLayer(
                source=neuroglancer.LayerDataSource(
                    url=f"zarr3://{url}/s{each.setup}-t{each.first_time}/",
                    transform=neuroglancer.CoordinateSpaceTransform(
                        output_dimensions=space, matrix=_matrix(each.transform, each.first_time)
                    ),
                ),
                shader=_SHADER,
                shader_controls={"contrast": {"range": _range(each)}, "color": _COLORS[each.color]},
                blend="additive",
                opacity=1.0,
            ),
        )
    return state


def _range(shown: Shown) -> list[float]:
    """Return the contrast as neuroglancer takes it: of whole pixels two different whole numbers."""
    low, high = shown.contrast
    if shown.view.dtype.kind == "f":
        return [low, high]
    return [math.floor(low), max(math.ceil(high), math.floor(low) + 1)]


def _space(neuroglancer: Any, shown: list[Shown]) -> Any:
    unit = shown[0].unit
    length, name = (1.0, "") if unit == "pixel" else (convert(1.0, unit, "meter"), "m")
    return neuroglancer.CoordinateSpace(
        names=["x", "y", "z", "t"], scales=[length, length, length, 1.0], units=[name, name, name, ""]
    )


def _matrix(transform: Affine, start: int) -> NDArray[np.float64]:
    """Return the matrix (x, y, z, t) x (t, z, y, x, 1).

    Neuroglancer's own voxels begin at whole numbers; those of OME-Zarr it shifts by half a pixel itself, so that their
    centres are there, as NGFF and BigDataViewer have it (screen/test_browser.py measures it).
    """
    xyz = np.asarray(transform)
    matrix = np.zeros((4, 5))
    matrix[:3, 1:4] = xyz[:, 2::-1]
    matrix[:3, 4] = xyz[:, 3]
    matrix[3, 0], matrix[3, 4] = 1, start
    return matrix


def _world_box(shown: list[Shown]) -> Box:
    boxes = []
    for each in shown:
        z, y, x = each.view.shape
        corners = [(i, j, k) for i in (-0.5, x - 0.5) for j in (-0.5, y - 0.5) for k in (-0.5, z - 0.5)]
        places = each.transform.apply(corners)
        low, high = places.min(axis=0).tolist(), places.max(axis=0).tolist()
        boxes.append(Box((low[0], low[1], low[2]), (high[0], high[1], high[2])))
    return Box.around(boxes)
