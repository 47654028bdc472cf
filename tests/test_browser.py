"""What a browser is given: chunks, and what neuroglancer is to show. On a screen: screen/test_browser.py."""

import http.client
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

import npy2bdv
from npy2bdv import Affine, ViewTransform
from npy2bdv.errors import InvalidInputError
from npy2bdv.views import browser
from npy2bdv.views.chunks import CACHE_BYTES, ChunkServer, Source
from npy2bdv.views.shown import all_shown

neuroglancer = pytest.importorskip("neuroglancer")

SHAPE = (5, 70, 90)
SHEAR = Affine(values=(1, 0.1, 0.3, 7, 0, 1, -0.2, -3, 0.05, 0, 1, 11))
FORMATS: list[dict[str, Any]] = [
    {"format": "hdf5"},
    {"format": "n5"},
    {"zarr_version": 2},
    {"zarr_version": 3},
]


def stack(time: int, setup: int, dtype: str = "uint16") -> np.ndarray[Any, np.dtype[Any]]:
    return np.random.default_rng(10 * time + setup).integers(0, 120, SHAPE).astype(dtype)


def make(path: Path, dtype: str = "uint16", **options: Any) -> Path:
    """Two channels, two time points; view (1, 1) is missing."""
    options = {"levels": [(1, 1, 1), (1, 2, 2), (2, 4, 4)], "chunks": (4, 32, 32), **options}
    with npy2bdv.create(path, **options) as writer:
        for channel in ("488", "561"):
            writer.add_setup(
                shape=SHAPE,
                dtype=dtype,
                channel=channel,
                voxel_size_xyz=(0.4, 0.4, 1.2),
                unit="micrometer",
                transform=[ViewTransform(affine=SHEAR, name="shear")],
            )
        for time, setup in ((0, 0), (0, 1), (1, 0)):
            writer.write(stack(time, setup, dtype), setup=setup, time=time)
    return path


class Client:
    """Asks as a browser does, by whole paths."""

    def __init__(self, server: ChunkServer) -> None:
        self.server = server
        self.root = urlsplit(server.url("127.0.0.1")).path

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        found = response.status, response.read()
        connection.close()
        return found

    def json(self, path: str) -> Any:
        status, content = self.get(f"{self.root}/{path}")
        assert status == 200
        return json.loads(content)

    def whole(self, name: str, level: int) -> np.ndarray[Any, np.dtype[Any]]:
        """Put an array together from its chunks, as the specification of Zarr says."""
        said = self.json(f"{name}/{level}/zarr.json")
        shape, chunk = said["shape"], said["chunk_grid"]["configuration"]["chunk_shape"]
        assert said["codecs"] == [{"name": "bytes", "configuration": {"endian": "little"}}]
        dtype = np.dtype(said["data_type"]).newbyteorder("<")
        array = np.full(shape, 77, dtype)
        for place in np.ndindex(*(-(-size // side) for size, side in zip(shape, chunk, strict=True))):
            status, content = self.get(f"{self.root}/{name}/{level}/c/{'/'.join(map(str, place))}")
            assert status == 200
            box = tuple(slice(k * side, (k + 1) * side) for k, side in zip(place, chunk, strict=True))
            block = np.frombuffer(content, dtype).reshape(chunk)
            array[box] = block[tuple(slice(0, size) for size in array[box].shape)]
        return array


def served(dataset: npy2bdv.Dataset) -> ChunkServer:
    sources = {f"s{each.setup}-t{each.first_time}": Source(each) for each in all_shown(dataset)}
    return ChunkServer(sources, "secret", "127.0.0.1", 0)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with npy2bdv.open(make(tmp_path / "scan.xml")) as dataset:
        server = served(dataset)
        yield Client(server)
        server.close()


@pytest.mark.parametrize("options", FORMATS, ids=lambda options: "-".join(map(str, options.values())))
def test_chunks_are_the_pixels_of_every_format(tmp_path: Path, options: dict[str, Any]) -> None:
    path = make(tmp_path / "scan.xml", **options)
    with npy2bdv.open(path) as dataset:
        server = served(dataset)
        client = Client(server)
        for setup in range(2):
            for number, factors in enumerate([(1, 1, 1), (1, 2, 2), (2, 4, 4)]):
                array = client.whole(f"s{setup}-t0", number)
                np.testing.assert_array_equal(array[0], npy2bdv.downsample(stack(0, setup), factors))
                if setup == 0:
                    np.testing.assert_array_equal(array[1], npy2bdv.downsample(stack(1, 0), factors))
                else:
                    assert not array[1].any()  # it is missing
        server.close()


@pytest.mark.parametrize(
    ("dtype", "sent"),
    [
        ("uint8", "uint8"),
        ("int16", "int16"),
        ("float32", "float32"),
        ("float64", "float32"),
        ("int64", "float32"),
    ],
)
def test_pixel_types(tmp_path: Path, dtype: str, sent: str) -> None:
    with npy2bdv.open(make(tmp_path / "scan.n5", dtype)) as dataset:
        server = served(dataset)
        client = Client(server)
        assert client.json("s0-t0/0/zarr.json")["data_type"] == sent
        np.testing.assert_array_equal(client.whole("s0-t0", 0)[1], stack(1, 0, dtype))
        server.close()


def test_levels_lie_on_each_other(client: Client) -> None:
    """By NGFF a pixel's place is its centre: (f - 1) / 2 for the first of a level."""
    (image,) = client.json("s0-t0/zarr.json")["attributes"]["ome"]["multiscales"]
    assert [axis["name"] for axis in image["axes"]] == ["t", "z", "y", "x"]
    for entry, (z, y, x) in zip(image["datasets"], [(1, 1, 1), (1, 2, 2), (2, 4, 4)], strict=True):
        scale, translation = entry["coordinateTransformations"]
        assert scale["scale"] == [1, z, y, x]
        assert translation["translation"] == [0, (z - 1) / 2, (y - 1) / 2, (x - 1) / 2]


def test_what_is_not_answered(client: Client) -> None:
    chunk = f"{client.root}/s0-t0/0/c/0/0/0/0"
    assert client.get(chunk)[0] == 200
    assert client.get(chunk, Host="localhost:1")[0] == 200
    for host in ("evil.example", "127.0.0.1.evil.example", "[", ""):
        assert client.get(chunk, Host=host)[0] == 403
    for path in (
        "/",
        "/wrong/s0-t0/zarr.json",
        "/secre/s0-t0/zarr.json",
        "/secret2/s0-t0/zarr.json",
        "//secret",
    ):
        status, content = client.get(path)
        assert (status, b"zarr" in content) == (403 if path != "//secret" else 404, False)
    for rest in (
        "s9-t0/zarr.json", "s0-t0/9/zarr.json", "s0-t0/..", "s0-t0", "", "../../../../etc/passwd",
        "s0-t0/0/c/0/0/0/999", "s0-t0/0/c/9/0/0/0", "s0-t0/0/c/-1/0/0/0", "s0-t0/0/c/0/0/0", "s0-t0/0/c/0/0/0/0/0",
        "s0-t0/0/c/%C2%B2/0/0/0", f"s0-t0/0/c/0/0/0/{'9' * 5000}",
    ):  # fmt: skip
        assert client.get(f"{client.root}/{rest}") == (404, b""), rest


def test_many_at_once_and_a_bounded_cache(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("npy2bdv.views.chunks.CACHE_BYTES", 100_000)
    wanted, found = client.whole("s0-t0", 0), []
    threads = [threading.Thread(target=lambda: found.append(client.whole("s0-t0", 0))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert all(np.array_equal(each, wanted) for each in found)
    assert (
        client.server._cached_bytes == sum(map(len, filter(None, client.server._cache.values()))) <= 100_000
    )
    assert CACHE_BYTES < 2**28


def test_a_dataset_that_was_closed(tmp_path: Path) -> None:
    with npy2bdv.open(make(tmp_path / "scan.xml")) as dataset:
        server = served(dataset)
        client = Client(server)
    status, content = client.get(f"{client.root}/s0-t0/0/c/0/0/0/0")
    assert (status, b"closed" in content) == (500, True)
    server.close()


@pytest.mark.parametrize("options", [{"format": "n5"}, {"zarr_version": 3}], ids=["n5", "zarr"])
def test_damaged_pixels_are_not_zeros(tmp_path: Path, options: dict[str, Any]) -> None:
    """A chunk that is not found is one of zeros: damage has to be told apart from it."""
    path = make(tmp_path / "scan.xml", **options)
    with npy2bdv.open(path) as dataset:
        server = served(dataset)
        client = Client(server)
        for file in tmp_path.rglob("*"):
            if file.is_file() and file.suffix not in (".xml", ".json"):
                file.write_bytes(file.read_bytes()[:20])
        status, content = client.get(f"{client.root}/s0-t0/0/c/0/0/0/0")
        assert (status, b"cannot be read" in content) == (500, True)
        server.close()


def test_where_views_are(tmp_path: Path) -> None:
    """The matrix leads from centres of voxels to where the dataset puts them."""
    with npy2bdv.open(make(tmp_path / "scan.xml")) as dataset:
        view = dataset.view(setup=1, time=0)
        with npy2bdv.view_in_browser(dataset, open_browser=False) as shown:
            said = shown.viewer.state.to_json()
        layer = said["layers"][1]
        assert layer["name"] == "channel 561"
        matrix = np.array(layer["source"][0]["transform"]["matrix"])
        for xyz in [(0, 0, 0), (89, 0, 4), (3, 69, 2)]:
            x, y, z = xyz
            place = matrix @ (1, z, y, x, 1)  # the second time point
            np.testing.assert_allclose(place[:3], view._world_unit * view.transform.apply(xyz), rtol=1e-12)
            assert place[3] == 1
        assert said["dimensions"] == {"x": [1e-6, "m"], "y": [1e-6, "m"], "z": [1e-6, "m"], "t": [1, ""]}
        assert layer["shaderControls"]["color"] == "#ff00ff"
        low, high = layer["shaderControls"]["contrast"]["range"]
        assert 0 <= low < 60 < high <= 120


def test_two_at_once_and_the_end(tmp_path: Path) -> None:
    with npy2bdv.open(make(tmp_path / "scan.xml")) as dataset:
        first = npy2bdv.view_in_browser(dataset, open_browser=False)
        at = urlsplit(first.url).port or 0
        second = npy2bdv.view_in_browser(dataset, open_browser=False, port=at)
        assert first.url != second.url
        for host, port in [("127.0.0.1", at - 1), ("0.0.0.0", 0)]:
            with pytest.raises(InvalidInputError, match=f"host='127.0.0.1', port={at}, .*close it"):
                npy2bdv.view_in_browser(dataset, open_browser=False, host=host, port=port)
        assert len(browser._running) == 2
        first.close()
        first.close()
        page = urlsplit(second.url)
        connection = http.client.HTTPConnection("127.0.0.1", page.port or 0, timeout=30)
        connection.request("GET", page.path)
        assert connection.getresponse().status == 200
        assert f'href="{second.url}"' in second._repr_html_()
        connection.close()
        second.close()
        with pytest.raises(ConnectionRefusedError):
            http.client.HTTPConnection("127.0.0.1", page.port or 0, timeout=5).request("GET", page.path)
    assert not [each for each in threading.enumerate() if "npy2bdv-chunks" in each.name]


def test_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with npy2bdv.open(make(tmp_path / "scan.xml")) as dataset:
        for port in (-1, 70_000, 2**16 - 1):
            with pytest.raises(InvalidInputError, match="give 0 to 65534"):
                npy2bdv.view_in_browser(dataset, open_browser=False, port=port)
        holder = served(dataset)
        with pytest.raises(
            InvalidInputError, match=rf"ports {holder.port - 1} and {holder.port} .*cannot be used"
        ):
            npy2bdv.view_in_browser(dataset, open_browser=False, port=holder.port - 1)
        holder.close()
        monkeypatch.setitem(sys.modules, "neuroglancer", None)
        with pytest.raises(InvalidInputError, match=r'pip install "npy2bdv\[view\]"'):
            npy2bdv.view_in_browser(dataset)
    assert not browser._running


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent in another way there")
def test_the_command_runs_until_it_is_interrupted(tmp_path: Path) -> None:
    path = make(tmp_path / "scan.xml")
    command = [sys.executable, "-m", "npy2bdv", "view", str(path), "--no-open", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        page = urlsplit(json.loads(process.stdout.readline())["url"])
        connection = http.client.HTTPConnection("127.0.0.1", page.port or 0, timeout=30)
        connection.request("GET", page.path)
        answer = connection.getresponse()
        assert (answer.status, b"<html" in answer.read().lower()) == (200, True)
        connection.close()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
