"""The npy2bdv command. Only it prints; what takes long to import is imported by the command that needs it."""

from __future__ import annotations

import io
import os
import sys
import warnings
from typing import TYPE_CHECKING

from npy2bdv.cli.arguments import as_options
from npy2bdv.errors import BdvError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cyclopts import App

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv
        Its arguments; by default those of the process.

    Returns
    -------
    status
        0; or 1 where something was wrong, which one line on stderr explains; or 130 after Ctrl-C; or 2 where
        arguments cannot be read, or the answer is no (`speedtest`), or there are warnings (`check`).
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a label may have letters that a console or pipe lacks
            stream.reconfigure(errors="replace")
    tokens = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in tokens or bool(os.environ.get("NPY2BDV_DEBUG"))
    command, arguments, _ = _app().parse_args([token for token in tokens if token != "--debug"])
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _say  # type: ignore[assignment]  # it takes whatever else there is
            status: int | None = command(*arguments.args, **arguments.kwargs)
    except (BdvError, OSError) as error:
        if debug:
            raise
        sys.stderr.write(f"npy2bdv: {as_options(str(error))}\n")
        return 1
    except KeyboardInterrupt:
        if debug:
            raise
        sys.stderr.write("npy2bdv: interrupted\n")
        return INTERRUPTED
    return status or 0


def _say(message: Warning | str, *_: object) -> None:
    """Show a warning as one line."""
    sys.stderr.write(f"npy2bdv: {as_options(str(message))}\n")


def _app() -> App:
    from importlib.metadata import version

    from cyclopts import App

    from npy2bdv.cli.check import check
    from npy2bdv.cli.convert import convert
    from npy2bdv.cli.crop import crop
    from npy2bdv.cli.demo import demo
    from npy2bdv.cli.export import export
    from npy2bdv.cli.info import info
    from npy2bdv.cli.merge import merge
    from npy2bdv.cli.plan import plan
    from npy2bdv.cli.preview import preview
    from npy2bdv.cli.recover import recover
    from npy2bdv.cli.repack import repack
    from npy2bdv.cli.speedtest import speedtest
    from npy2bdv.cli.transform import transform
    from npy2bdv.cli.view import view

    app = App(
        name="npy2bdv",
        help="Write and read BigDataViewer / BigStitcher datasets: an XML, and pixels in HDF5, N5 or OME-Zarr.\n\n"
        "With --debug (or NPY2BDV_DEBUG=1 in the environment) an error shows its whole traceback.",
        version=lambda: f"npy2bdv {version('npy2bdv')}",
        version_flags=["--version"],
        help_format="markdown",
    )
    app.command(convert, name=("convert", "resave"))
    for command in (demo, export, info, check, speedtest, recover, crop, merge, repack, plan, preview, view):
        app.command(command)
    app.command(transform)
    return app
