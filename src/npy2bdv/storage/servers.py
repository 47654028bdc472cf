"""Places on servers: ``s3://``, ``gs://``, ``http(s)://``. The only file that takes such addresses apart.

Who may read and write there, and which server answers for ``s3://``, is taken from the environment as other programs
take it (``AWS_...``); nothing of that is in an address, in a file that we write, or in a message.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote, unquote, urlsplit

from npy2bdv.errors import BdvError, InvalidInputError, NotFoundError, RemoteError

if TYPE_CHECKING:
    from collections.abc import Generator

    _Base = Path  # for type checkers: what formats do with a path they do with a place on a server as well
else:
    _Base = object

SCHEMES = ("s3", "gs", "http", "https")
TIMEOUT_S = 30.0
"""How long one call to a server may take, and a second more for each megabyte."""
TIMEOUT_VARIABLE = "NPY2BDV_REMOTE_TIMEOUT"
_BYTES_PER_S = 1e6
_TRIES = 4
_URL = re.compile(r"(s3|gs|https?):[/\\]{1,2}(?=[^/\\])", re.IGNORECASE)
"""As it was given, or as a `Path` makes of it: with one slash."""
_MARKS = ("attributes.json", "zarr.json", ".zgroup", ".zarray", ".zattrs")
"""By which a container, or what lies in one, is known without listing it."""
_RETRIES = {"max_retries": _TRIES, "initial_delay": "200ms", "max_delay": "2s"}
CONTEXT = {f"{name}_request_retries": _RETRIES for name in ("s3", "gcs", "http")}
"""The engine's own retries, which would go on for minutes."""


def is_url(text: str) -> bool:
    """Tell whether a text names a place on a server that can be read."""
    return _URL.match(text) is not None


def place_of(path: str | os.PathLike[str]) -> Path:
    """Return a place that a user or an XML names: a path on this machine, or a `RemotePath`.

    Raises
    ------
    InvalidInputError
        If it is an address that cannot be used.
    """
    if isinstance(path, RemotePath):
        return path
    text = os.fspath(path)
    found = _URL.match(text)
    if found is None:
        return Path(path)
    scheme = found[1].lower()
    rest = text[found.end() :].replace("\\", "/")
    return _parsed(scheme, rest)


def _parsed(scheme: str, rest: str) -> RemotePath:
    root, _, key = rest.partition("/")
    if "@" in root:
        raise InvalidInputError(
            f"{scheme}://...@{root.rpartition('@')[2]} has credentials in it, which end in logs and histories; leave "
            "them out, and set them in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE)"
        )
    if scheme in ("http", "https"):
        if "?" in rest or "#" in rest:
            raise InvalidInputError(
                f"{scheme}://{re.split('[?#]', rest)[0]} is given with a query, which is good for one file, and a "
                "dataset has many: give an address without, or s3:// with credentials in the environment"
            )
        key = unquote(key)
        try:
            port = urlsplit(f"{scheme}://{root}").port
        except ValueError:
            port = -1
        if port == -1:
            raise InvalidInputError(f"{scheme}://{root} is no address: its port is not a number below 65536")
    return RemotePath(scheme=scheme, bucket=root, key=_normal(key))


def _normal(key: str) -> str:
    """Return a key without empty parts, "." and ".."; nothing lies above the bucket."""
    parts: list[str] = []
    for part in key.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemotePath(_Base):
    """A place on a server, handled as a path is. What cannot be done there is an error that says so.

    Attributes
    ----------
    scheme
        "s3", "gs", "http" or "https".
    bucket
        Bucket, or host and port.
    key
        What follows, with slashes between names, none in front or at the end.
    """

    scheme: str
    bucket: str
    key: str

    def __str__(self) -> str:
        """Return the address."""
        return f"{self.scheme}://{self.bucket}/{self.key}".removesuffix("/")

    def __repr__(self) -> str:
        """Show the address."""
        return f"RemotePath('{self}')"

    def __fspath__(self) -> NoReturn:
        """Refuse to be taken for a file of this machine."""
        raise self._impossible("it is opened as a file of this machine")

    def __lt__(self, other: PurePath) -> bool:
        """By the address."""
        return str(self) < str(other)

    def __getattr__(self, name: str) -> Any:
        """Refuse what only a path on a disk has."""
        if name.startswith("_") or not hasattr(Path, name):
            raise AttributeError(name)
        raise self._impossible(f"it takes {name!r} of a path on a disk")

    def _impossible(self, why: str) -> InvalidInputError:
        return InvalidInputError(
            f"{self} is on a server, where this cannot be done ({why}): work with a copy on this machine "
            "(npy2bdv.resave)"
        )

    # -- names -------------------------------------------------------------------------------------------

    @property
    def _pure(self) -> PurePosixPath:
        return PurePosixPath(self.key)

    @property
    def name(self) -> str:
        """The last name."""
        return self._pure.name

    @property
    def stem(self) -> str:
        """The last name without its suffix."""
        return self._pure.stem

    @property
    def suffix(self) -> str:
        """What follows the last dot."""
        return self._pure.suffix

    @property
    def parent(self) -> RemotePath:
        """What it lies in."""
        return replace(self, key=self.key.rpartition("/")[0])

    def __truediv__(self, other: str | os.PathLike[str]) -> RemotePath:
        """Return what is named from here; from the bucket where it begins with a slash."""
        text = str(other)
        return replace(self, key=_normal(text if text.startswith("/") else f"{self.key}/{text}"))

    def with_name(self, name: str) -> RemotePath:
        """Return a neighbour."""
        return self.parent / name

    def with_suffix(self, suffix: str) -> RemotePath:
        """Return a neighbour of the same stem."""
        return self.parent / f"{self.stem}{suffix}"

    def absolute(self) -> RemotePath:
        """Return itself."""
        return self

    def resolve(self, strict: bool = False) -> RemotePath:
        """Return itself: there are no links."""
        return self

    def is_relative_to(self, other: Any, *_: Any) -> bool:
        """Tell whether it lies in another place."""
        if not isinstance(other, RemotePath) or (self.scheme, self.bucket) != (other.scheme, other.bucket):
            return False
        return other.key == "" or f"{self.key}/".startswith(f"{other.key}/")

    def relative_to(self, other: Any, *_: Any, **__: Any) -> Any:  # type: ignore[override]
        """Return what follows another place."""
        return self._pure.relative_to(other.key)

    @property
    def readable_only(self) -> bool:
        """Whether nothing can be written there."""
        return self.scheme in ("http", "https")

    # -- what is there -----------------------------------------------------------------------------------

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Tell whether something of this name is there, or below it."""
        return self.is_dir() or self.is_file()

    def is_file(self) -> bool:
        """Tell whether there is something of just this name."""
        from npy2bdv.storage.tensors import read_key

        return bool(self.key) and read_key(self.parent, self.name) is not None

    def is_dir(self) -> bool:
        """Tell whether there is something below this name; metadata are looked for first, the rest is listed."""
        from npy2bdv.storage.tensors import list_keys, read_key

        if any(read_key(self, name) is not None for name in _MARKS):
            return True
        return not self.readable_only and bool(list_keys(self))

    def is_symlink(self) -> bool:
        """No: there are no links."""
        return False

    def read_bytes(self) -> bytes:
        """Return what is there.

        Raises
        ------
        NotFoundError
            If there is nothing.
        """
        from npy2bdv.storage.tensors import list_keys, read_key

        text = read_key(self.parent, self.name)
        if text is None:
            if not self.readable_only:
                list_keys(self.parent, self.name)  # says so where the bucket itself is not there
            raise NotFoundError(f"there is no {self}; check the name")
        return text

    def write_bytes(self, data: Any) -> int:
        """Put something there, in place of what was there before."""
        from npy2bdv.storage.tensors import write_key

        write_key(self.parent, self.name, bytes(data))
        return len(data)

    def iterdir(self) -> Generator[RemotePath]:
        """Iterate over what lies in it: names of objects, and beginnings of names."""
        from npy2bdv.storage.tensors import list_keys

        for name in sorted({key.partition("/")[0] for key in list_keys(self)}):
            yield self / name


def refuse_remote(path: str | os.PathLike[str], what: str, instead: str) -> None:
    """Refuse a place on a server where something needs a disk.

    Raises
    ------
    InvalidInputError
        If it is one.
    """
    if isinstance(place := place_of(path), RemotePath):
        raise InvalidInputError(f"{place} is on a server, and {what}; {instead}")


def refuse_unwritable(path: Path) -> None:
    """Refuse a place that is only read.

    Raises
    ------
    InvalidInputError
        If it is one.
    """
    if isinstance(path, RemotePath):
        if path.readable_only:
            raise InvalidInputError(
                f"{path} cannot be written: http(s) is for reading only; write to s3:// or gs://, or to a folder that "
                "the server shows"
            )
        if not path.key:
            raise InvalidInputError(f"{path} names a bucket and nothing in it: give {path}/NAME.xml")


def spelled(text: str) -> str:
    """Return a path or an address as a URI (formats.md 1.3)."""
    return quote(text, safe="/:") if is_url(text) else quote(text)


# ---------------------------------------------------------------------------------- calls


def timeout() -> float:
    """Return how many seconds one call may take; a second more for each megabyte is added.

    Raises
    ------
    InvalidInputError
        If the environment has something else than a number there.
    """
    text = os.environ.get(TIMEOUT_VARIABLE, "")
    try:
        seconds = float(text) if text else TIMEOUT_S
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < math.inf:
        raise InvalidInputError(f"{TIMEOUT_VARIABLE}={text!r} is no number of seconds above 0; correct it")
    return seconds


def patience(nbytes: int) -> float:
    """Return how many seconds a call with so many bytes may take."""
    return timeout() + nbytes / _BYTES_PER_S


def kvstore_of(path: Path) -> dict[str, Any]:
    """Return how the engine names a folder, here or on a server."""
    if not isinstance(path, RemotePath):
        # without "..", which it refuses
        return {"driver": "file", "path": f"{path.resolve().as_posix()}/"}
    key = f"{path.key}/" if path.key else ""
    if path.scheme == "s3":
        return {"driver": "s3", "bucket": path.bucket, "path": key, **_aws()}
    if path.scheme == "gs":
        return {"driver": "gcs", "bucket": path.bucket, "path": key}
    return {"driver": "http", "base_url": f"{path.scheme}://{path.bucket}/{quote(key)}"}


def _aws() -> dict[str, Any]:
    """Return which server answers for ``s3://``, and where the engine finds credentials: never these themselves."""
    known = os.environ.get
    said: dict[str, Any] = {}
    endpoint = known("AWS_ENDPOINT_URL_S3") or known("AWS_ENDPOINT_URL")
    if endpoint:
        said["endpoint"] = endpoint.rstrip("/")
    region = known("AWS_REGION") or known("AWS_DEFAULT_REGION") or ("us-east-1" if endpoint else None)
    if region:
        said["aws_region"] = region
    unsigned = known("AWS_NO_SIGN_REQUEST", "").lower() in ("1", "yes", "true")
    if unsigned:
        said["aws_credentials"] = {"type": "anonymous"}
    elif known("AWS_ACCESS_KEY_ID") and known("AWS_SECRET_ACCESS_KEY"):
        said["aws_credentials"] = {"type": "environment"}
    elif profile := known("AWS_PROFILE"):
        said["aws_credentials"] = {"type": "profile", "profile": profile}
    elif known("AWS_EC2_METADATA_DISABLED", "").lower() == "true" and not _has_profile():
        said["aws_credentials"] = {"type": "anonymous"}
    return said


def _has_profile() -> bool:
    named = os.environ.get("AWS_SHARED_CREDENTIALS_FILE")
    return Path(named).is_file() if named else (Path.home() / ".aws" / "credentials").is_file()


_CAUSES = (
    (
        ("NoSuchBucket", "bucket does not exist"),
        "there is no such bucket: check its name, and AWS_ENDPOINT_URL and AWS_REGION",
    ),
    (
        (
            "PERMISSION_DENIED", "UNAUTHENTICATED", "AccessDenied", "SignatureDoesNotMatch", "InvalidAccessKeyId",
            "ExpiredToken", "InvalidToken",
            "HTTP response code: 401", "HTTP response code: 403", "HTTP 401", "HTTP 403",
        ),
        "access was denied: check the credentials in the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
        "AWS_PROFILE; AWS_NO_SIGN_REQUEST=1 for public buckets), and what they allow",
    ),
    (
        ("connect to server", "resolve host", "resolve proxy", "CURL error"),
        "no connection to the server: check that it runs, the address (AWS_ENDPOINT_URL), and the network",
    ),
)  # fmt: skip


def failed(error: BaseException, what: str, path: Path, seconds: float) -> BdvError:
    """Return the error that says which call failed, why, and what to do; without addresses that are signed, or keys."""
    said = f"{what} {path} failed"
    if isinstance(error, TimeoutError):
        return RemoteError(
            f"{said}: no answer within {seconds:.0f} s; check the server and the network, or give it more time "
            f"({TIMEOUT_VARIABLE})"
        )
    text = str(error)
    for number, (signs, cause) in enumerate(_CAUSES):
        if any(sign in text for sign in signs):
            return (NotFoundError if number == 0 else RemoteError)(f"{said}: {cause}")
    return RemoteError(f"{said}: {_without_secrets(text)}")


def is_of_server(error: BaseException) -> bool:
    """Tell whether an error of the engine is one of the server, and not of what lies there."""
    text = str(error)
    statuses = ("ABORTED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "INTERNAL", "UNKNOWN")
    return (
        isinstance(error, TimeoutError)
        or text.startswith(statuses)
        or any(sign in text for signs, _ in _CAUSES for sign in signs)
    )


def _without_secrets(text: str) -> str:
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID"):
        if secret := os.environ.get(name):
            text = text.replace(secret, "***")
    text = re.sub(r"\?[^\s'\"<>\]]+", "?...", re.sub(r"<[^>]*KeyId>[^<]*", "", text))
    return text if len(text) <= 400 else f"{text[:400]}..."
