"""Pixels for a browser: one server on this machine gives the views of every format as chunks of OME-Zarr."""

from __future__ import annotations

import json
import logging
import math
import secrets
import threading
from collections import OrderedDict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from npy2bdv.errors import BdvError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from npy2bdv.model.pyramid import Zyx
    from npy2bdv.view import Level
    from npy2bdv.views.shown import Shown

logger = logging.getLogger(__name__)

CACHE_BYTES = 128 * 2**20
_FEWEST, _MOST = 2**15, 2**19  # pixels of a chunk that is sent
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_EVERYWHERE = {"0.0.0.0", "::"}  # who listens there said so


class Source:
    """The levels of a setup over time as an OME-Zarr 0.5 image (t, z, y, x), whose chunks are not compressed.

    In pixels of the full resolution, whose first has its centre at 0; the transform is left to who shows it.
    """

    def __init__(self, shown: Shown) -> None:
        self.views, self.unit = shown.views, shown.unit
        first = shown.view
        self.levels = tuple(first.levels())
        self.dtype = _sent(first.dtype)
        self.chunks = [_chunk(level) for level in self.levels]

    def group(self) -> dict[str, Any]:
        """Return what the image says of itself."""
        datasets = []
        for number, level in enumerate(self.levels):
            factors = [float(factor) for factor in level.factors]
            transforms = [
                {"type": "scale", "scale": [1.0, *factors]},
                {"type": "translation", "translation": [0.0, *((factor - 1) / 2 for factor in factors)]},
            ]
            datasets.append({"path": str(number), "coordinateTransformations": transforms})
        # a pixel is said to be one unit of the world long, since neuroglancer multiplies transforms by what differs
        unit = {} if self.unit == "pixel" else {"unit": self.unit}
        axes = [{"name": "t", "type": "time"}, *({"name": name, "type": "space", **unit} for name in "zyx")]
        image = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
        return {"zarr_format": 3, "node_type": "group", "attributes": {"ome": image}}

    def array(self, number: int) -> dict[str, Any]:
        """Return what an array says of itself."""
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [len(self.views), *self.levels[number].shape],
            "data_type": self.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, *self.chunks[number]]}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 0,
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        }

    def chunk(self, number: int, place: Sequence[int]) -> bytes | None:
        """Return a chunk, zeros of a view that is missing; None at a place that is outside."""
        time, *at = place
        shape, chunk = self.levels[number].shape, self.chunks[number]
        if time >= len(self.views) or any(
            k * side >= size for k, side, size in zip(at, chunk, shape, strict=True)
        ):
            return None
        view = self.views[time]
        if view is None:
            return bytes(math.prod(chunk) * self.dtype.itemsize)
        z, y, x = (slice(k * side, (k + 1) * side) for k, side in zip(at, chunk, strict=True))
        pixels = view.level(number)[z, y, x]
        if pixels.shape != chunk:
            whole = np.zeros(chunk, pixels.dtype)
            whole[tuple(slice(0, size) for size in pixels.shape)] = pixels
            pixels = whole
        return np.ascontiguousarray(pixels, self.dtype).tobytes()


def _sent(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the pixel type that is sent: neuroglancer has neither float64 nor int64."""
    if dtype.kind == "f" or dtype == np.dtype("int64"):
        return np.dtype("<f4")
    return dtype.newbyteorder("<")


def _chunk(level: Level) -> Zyx:
    """Return the size of chunks that are sent: those that are stored, or larger or smaller ones around them."""
    shape = [max(1, size) for size in level.shape]
    chunk = [min(side, size) for side, size in zip(level.chunks, shape, strict=True)]
    while np.prod(chunk) > _MOST:
        axis = int(np.argmax(chunk))
        chunk[axis] = -(-chunk[axis] // 2)
    while np.prod(chunk) < _FEWEST and chunk != shape:
        axis = min((axis for axis in range(3) if chunk[axis] < shape[axis]), key=chunk.__getitem__)
        chunk[axis] = min(2 * chunk[axis], shape[axis])
    return chunk[0], chunk[1], chunk[2]


class ChunkServer:
    """Serves sources under ``http://HOST:PORT/TOKEN/NAME``, to who knows the token.

    Parameters
    ----------
    sources
        By their names.
    token
        What an address has to begin with.
    host, port
        Where it listens; port 0 is any that is free.

    Raises
    ------
    OSError
        If the port is taken.
    """

    def __init__(self, sources: dict[str, Source], token: str, host: str, port: int) -> None:
        self._sources, self._token = sources, token
        self._hosts = {*_LOOPBACK, host}
        self._cache: OrderedDict[str, bytes | None] = OrderedDict()
        self._cached_bytes = 0
        self._guard = threading.Lock()

        class Handler(_Handler):
            answer = staticmethod(self.answer)

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="npy2bdv-chunks", daemon=True)
        self._thread.start()

    def url(self, host: str) -> str:
        """Return the address as it is from a host."""
        name = f"[{host}]" if ":" in host else host
        return f"http://{name}:{self.port}/{self._token}"

    def close(self) -> None:
        """Stop. A second call does nothing."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, host: str, path: str) -> tuple[HTTPStatus, bytes]:
        """Return status and content for a request. A page of another site, led here by its name, is not answered."""
        if not self._is_ours(host):
            return HTTPStatus.FORBIDDEN, b"not for this host"
        token, _, rest = path.lstrip("/").partition("/")
        if not secrets.compare_digest(token.encode(), self._token.encode()):
            return HTTPStatus.FORBIDDEN, b"the address has no valid token"
        with self._guard:
            if rest in self._cache:
                self._cache.move_to_end(rest)
                content = self._cache[rest]
                return (HTTPStatus.OK, content) if content is not None else (HTTPStatus.NOT_FOUND, b"")
        try:
            content = self._content(rest)
        except (BdvError, OSError) as error:  # first, since damage is a ValueError, too, and no zeros
            logger.warning("%s: %s", rest, error)
            return HTTPStatus.INTERNAL_SERVER_ERROR, str(error).encode()
        except (ValueError, LookupError):
            content = None
        if content is None:
            return HTTPStatus.NOT_FOUND, b""
        with self._guard:
            if rest not in self._cache:
                self._cache[rest] = content
                self._cached_bytes += len(content)
            while self._cached_bytes > CACHE_BYTES:
                _, gone = self._cache.popitem(last=False)
                self._cached_bytes -= len(gone or b"")
        return HTTPStatus.OK, content

    def _is_ours(self, host: str) -> bool:
        try:
            return bool(_EVERYWHERE & self._hosts) or urlsplit(f"//{host}").hostname in self._hosts
        except ValueError:
            return False

    def _content(self, path: str) -> bytes | None:
        name, *parts = path.split("/")
        source = self._sources[name]
        match parts:
            case ["zarr.json"]:
                return json.dumps(source.group()).encode()
            case [number, "zarr.json"]:
                return json.dumps(source.array(_index(number))).encode()
            case [number, "c", t, z, y, x]:
                return source.chunk(_index(number), [_index(part) for part in (t, z, y, x)])
        return None


def _index(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise ValueError(f"{text!r} is no index")
    return int(text)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answer: Any

    def do_GET(self) -> None:
        """Answer."""
        self._send(with_content=True)

    def do_HEAD(self) -> None:
        """Answer without content."""
        self._send(with_content=False)

    def _send(self, *, with_content: bool) -> None:
        status, content = self.answer(self.headers.get("Host", ""), self.path.partition("?")[0])
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header(
                "Access-Control-Allow-Origin", "*"
            )  # the page has another port; the token guards
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            if with_content:
                self.wfile.write(content)
        except (BrokenPipeError, ConnectionError):  # the browser does not want it any more
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        logger.debug(format, *args)
