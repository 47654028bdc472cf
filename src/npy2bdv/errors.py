"""What can go wrong, as types. Each error is also the built-in that a script would expect to catch.

BdvError
├── InvalidInputError   (ValueError)         an argument that cannot be right
├── InvalidTypeError    (TypeError, ValueError) an argument of a kind that is not taken
├── NotInDatasetError   (LookupError family) a view, level, plane or attribute that is not there
│   ├── MissingKeyError     (KeyError)
│   └── OutOfRangeError     (IndexError)
├── FormatError         (ValueError)         a file that is not what it should be
├── ExistsError         (FileExistsError)    something is there already and was not to be replaced
├── NotFoundError       (FileNotFoundError)  a file that is not there
├── ReadOnlyError       (ValueError)         a change was asked of something opened for reading
├── WriteError          (OSError)            writing to disk failed; its cause says why
├── RemoteError         (ConnectionError)    a server does not answer in time, or refuses
├── InUseError          (PermissionError)    another process is writing this dataset
├── QueueFull           (TimeoutError)       buffers are full and the caller does not want to wait
└── ClosedError         (RuntimeError)       the writer, editor or dataset is closed
"""


class BdvError(Exception):
    """Root of all errors that npy2bdv raises on purpose."""


class InvalidInputError(BdvError, ValueError):
    """An argument that cannot be right: wrong shape, NaN, a factor below 1."""


class InvalidTypeError(BdvError, TypeError, ValueError):
    """An argument of a kind that is not taken: a pixel type that the format lacks."""


class NotInDatasetError(BdvError, LookupError):
    """A view, level, plane or attribute that the dataset does not hold."""


class MissingKeyError(NotInDatasetError, KeyError):
    """A named thing (view, level, label) that the dataset does not hold."""

    def __str__(self) -> str:
        """Return the message itself; KeyError would print its repr."""
        return str(self.args[0]) if self.args else ""


class OutOfRangeError(NotInDatasetError, IndexError):
    """An index outside its range."""


class FormatError(BdvError, ValueError):
    """A file that is not what its name or its XML says."""


class ExistsError(BdvError, FileExistsError):
    """A file is there already and was not to be replaced."""


class NotFoundError(BdvError, FileNotFoundError):
    """A file that is needed is not there."""


class ReadOnlyError(BdvError, ValueError):
    """A change was asked of something that is open for reading only."""


class WriteError(BdvError, OSError):
    """Writing to disk failed; ``__cause__`` says why."""


class RemoteError(BdvError, ConnectionError):
    """A server does not answer in time, or refuses: no connection, access denied."""


class InUseError(BdvError, PermissionError):
    """Another process is writing this dataset."""


class QueueFull(BdvError, TimeoutError):
    """Buffers are full and the caller does not want to wait; the frame was not taken."""


class ClosedError(BdvError, RuntimeError):
    """The writer, editor or dataset has been closed."""
