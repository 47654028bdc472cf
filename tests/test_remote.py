"""Datasets on servers: S3 (a server of moto on this machine), http (a plain server of files), servers that fail."""

import logging
import pickle
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore

import npy2bdv
from npy2bdv.cli import main
from npy2bdv.errors import BdvError, ExistsError, InvalidInputError, NotFoundError, RemoteError
from npy2bdv.sample import Recording

KINDS: dict[str, dict[str, Any]] = {
    "n5": {"format": "n5"},
    "zarr2": {"format": "omezarr", "zarr_version": 2},
    "zarr3": {"format": "omezarr", "zarr_version": 3},
}
SECRET = "wJalrXUtnFEMIsecret"
RECORDING = Recording(shape=(6, 40, 48), grid=(1, 2), n_times=2, missing=((1, "561", 1),))


@pytest.fixture(autouse=True)
def no_proxy_and_no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Calls stay on this machine, and nothing of the user's is used."""
    for name in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "AWS_PROFILE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("NPY2BDV_REMOTE_TIMEOUT", "20")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Run an S3 server; give its address."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Make a bucket of this test's own."""
    name = f"b-{abs(hash(request.node.name))}"
    urllib.request.urlopen(urllib.request.Request(f"{server}/{name}", method="PUT")).close()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return f"s3://{name}"


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record a dataset with levels, labels, transforms and a missing view."""
    path = tmp_path_factory.mktemp("local") / "scan.xml"
    with npy2bdv.create(path, levels=((1, 1, 1), (1, 2, 2)), chunks=(4, 16, 16)) as writer:
        setups = {}
        for view in RECORDING.views():
            key = view.channel, view.tile
            if key not in setups:
                shift = npy2bdv.Affine.translation((41.5 * view.tile, 0, 0))
                setups[key] = writer.add_setup(
                    shape=view.stack.shape, channel=view.channel, tile=view.tile, transform=shift
                )
            writer.write(view.stack, setup=setups[key], time=view.time)
    return path


def computed(array: Any) -> int:
    """Return the sum of a dask array, whose methods have no types."""
    return int(array.sum().compute())


def same(one: npy2bdv.Dataset, other: npy2bdv.Dataset) -> None:
    assert one.missing_views == other.missing_views
    views = list(zip(one, other, strict=True))
    assert len(views) == 7
    for a, b in views:
        assert (a.id, a.attributes, a.transforms) == (b.id, b.attributes, b.transforms)
        for level in range(a.n_levels):
            np.testing.assert_array_equal(a.level(level)[:], b.level(level)[:])


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back(kind: str, bucket: str, local: Path, tmp_path: Path, server: str) -> None:
    """A dataset goes to the bucket and comes back, byte-equal; plain tensorstore reads it there."""
    there = npy2bdv.resave(local, f"{bucket}/a folder/scan.xml", **KINDS[kind], levels=((1, 1, 1), (1, 2, 2)))
    with npy2bdv.open(local) as mine, npy2bdv.open(f"{bucket}/a folder/scan.xml") as remote:
        same(mine, remote)
        view = remote.view(time=1, channel="488", tile=1)
        again = pickle.loads(pickle.dumps(view))
        np.testing.assert_array_equal(again[2:4], view[2:4])
        assert computed(view.to_dask()) == int(view[:].sum())
        key = {
            "n5": "scan.n5/setup0/timepoint0/s0/",
            "zarr2": "scan.ome.zarr/s0-t0.zarr/0/",
            "zarr3": "scan.ome.zarr/s0-t0.zarr/0/",
        }[kind]
        plain = tensorstore.open(
            {
                "driver": {"n5": "n5", "zarr2": "zarr", "zarr3": "zarr3"}[kind],
                "kvstore": {
                    "driver": "s3",
                    "bucket": bucket.removeprefix("s3://"),
                    "path": f"a folder/{key}",
                    "endpoint": server,
                    "aws_region": "us-east-1",
                },
            },
            read=True,
        ).result()
        pixels = np.squeeze(plain.read().result())
        expected = mine.view(time=0, setup=0)[:]
        np.testing.assert_array_equal(pixels.T if kind == "n5" else pixels, expected)
    assert str(there).startswith("s3://")
    npy2bdv.resave(f"{bucket}/a folder/scan.xml", tmp_path / "back.xml", levels=((1, 1, 1), (1, 2, 2)))
    with npy2bdv.open(local) as mine, npy2bdv.open(tmp_path / "back.xml") as back:
        same(mine, back)


def test_xml_here_and_pixels_there(bucket: str, local: Path, tmp_path: Path) -> None:
    path = tmp_path / "here.xml"
    npy2bdv.resave(local, path, pixels=f"{bucket}/far.ome.zarr", levels=((1, 1, 1), (1, 2, 2)))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["here.xml"]
    with npy2bdv.open(local) as mine, npy2bdv.open(path) as mixed:
        same(mine, mixed)
    with pytest.raises(BdvError, match="s3://"):
        npy2bdv.open(path, confine=True)


def test_workers_in_other_processes(bucket: str, local: Path) -> None:
    npy2bdv.resave(
        local, f"{bucket}/w.xml", format="omezarr", zarr_version=3, levels=((1, 1, 1), (1, 2, 2)), workers=2
    )
    with npy2bdv.open(local) as mine, npy2bdv.open(f"{bucket}/w.xml") as remote:
        same(mine, remote)


def test_the_commands(bucket: str, local: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(local), f"{bucket}/c.ome.zarr"]) == 0
    assert main(["info", f"{bucket}/c.xml"]) == 0
    assert "488" in capsys.readouterr().out
    assert main(["check", f"{bucket}/c.xml"]) == 1
    assert "is on a server" in capsys.readouterr().err


@pytest.mark.parametrize(
    "call",
    [
        lambda place, local: npy2bdv.create(f"{place}/a.xml", format="n5"),
        lambda place, local: npy2bdv.resave(local, f"{place}/a.h5"),
        lambda place, local: npy2bdv.edit(f"{place}/a.xml"),
        lambda place, local: npy2bdv.recover(f"{place}/a.xml"),
        lambda place, local: npy2bdv.repack(f"{place}/a.xml"),
        lambda place, local: npy2bdv.resave(local, "http://127.0.0.1:1/a.xml", format="n5"),
        lambda place, local: npy2bdv.open("s3://key:secret@bucket/a.xml"),
    ],
)
def test_what_needs_a_disk_is_refused(call: Any, bucket: str, local: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"server|http|credentials") as error:
        call(bucket, local)
    assert "secret@" not in str(error.value)


def test_nothing_is_replaced(bucket: str, local: Path) -> None:
    npy2bdv.resave(local, f"{bucket}/twice.xml", format="n5")
    with pytest.raises(ExistsError, match="already exists"):
        npy2bdv.resave(local, f"{bucket}/twice.xml", format="n5", overwrite=True)


def test_http_reads(local: Path, tmp_path: Path) -> None:
    npy2bdv.resave(local, tmp_path / "web.xml", format="omezarr", levels=((1, 1, 1), (1, 2, 2)))

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{web.server_port}"
        with npy2bdv.open(local) as mine, npy2bdv.open(f"{address}/web.xml") as remote:
            same(mine, remote)
        with pytest.raises(NotFoundError):
            npy2bdv.open(f"{address}/nothing.xml")
        web.shutdown()


def test_a_bucket_that_is_gone(bucket: str, local: Path) -> None:
    with pytest.raises(NotFoundError, match="no such bucket"):
        npy2bdv.open("s3://no-such-bucket-here/scan.xml")
    with pytest.raises(NotFoundError, match="no such bucket"):
        npy2bdv.resave(local, "s3://no-such-bucket-here/scan.xml", format="n5")
    with pytest.raises(NotFoundError, match=r"there is no s3://"):
        npy2bdv.open(f"{bucket}/nothing.xml")


def test_wrong_credentials(
    monkeypatch: pytest.MonkeyPatch, local: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that denies everything, as S3 says it; no secret is in the error or the log."""

    class Denies(BaseHTTPRequestHandler):
        def answer(self) -> None:
            text = b"<Error><Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>AKIDEXAMPLE</AWSAccessKeyId></Error>"
            self.send_response(403)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)

        do_GET = do_PUT = do_HEAD = do_DELETE = answer

        def log_message(self, *_: Any) -> None: ...

    caplog.set_level(logging.DEBUG)
    with ThreadingHTTPServer(("127.0.0.1", 0), Denies) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{web.server_port}")
        for call in (
            lambda: npy2bdv.open("s3://bucket/scan.xml"),
            lambda: npy2bdv.resave(local, "s3://bucket/scan.xml", format="n5"),
        ):
            with pytest.raises(RemoteError, match="access was denied: check the credentials") as error:
                call()
            assert SECRET not in str(error.value)
            assert "AKIDEXAMPLE" not in str(error.value)
        web.shutdown()
    assert SECRET not in caplog.text


@pytest.mark.parametrize("accepts", [False, True], ids=["stopped", "never answers"])
def test_a_server_that_is_gone(accepts: bool, monkeypatch: pytest.MonkeyPatch, local: Path) -> None:
    monkeypatch.setenv("NPY2BDV_REMOTE_TIMEOUT", "1.5")
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        if accepts:
            door.listen()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{door.getsockname()[1]}")
        for call in (
            lambda: npy2bdv.open("s3://bucket/scan.xml"),
            lambda: npy2bdv.resave(local, "s3://bucket/scan.xml", format="omezarr"),
        ):
            begun = time.monotonic()
            with pytest.raises(RemoteError, match=r"no answer within|no connection"):
                call()
            assert time.monotonic() - begun < 15


def test_no_secret_is_written(bucket: str, local: Path, server: str) -> None:
    import boto3

    npy2bdv.resave(local, f"{bucket}/secret.xml", format="n5")
    client, name = boto3.client("s3", endpoint_url=server), bucket.removeprefix("s3://")
    keys = [each["Key"] for each in client.list_objects_v2(Bucket=name)["Contents"]]
    assert len(keys) > 10
    for key in keys:
        text = client.get_object(Bucket=name, Key=key)["Body"].read()
        assert SECRET.encode() not in text
        assert b"AKIDEXAMPLE" not in text
        assert server.encode() not in text


@pytest.mark.parametrize(
    ("address", "kvstore"),
    [
        ("gs://bucket/a/scan.xml", {"driver": "gcs", "bucket": "bucket", "path": "a/"}),
        ("https://host:8000/a%20b/scan.xml", {"driver": "http", "base_url": "https://host:8000/a%20b/"}),
    ],
)
def test_addresses_as_the_engine_takes_them(address: str, kvstore: dict[str, str]) -> None:
    from npy2bdv.storage.servers import kvstore_of, place_of

    place = place_of(address)
    assert place.name == "scan.xml"
    assert kvstore_of(place.parent) == kvstore
