"""``npy2bdv view``."""

from __future__ import annotations

import json
import threading
from pathlib import Path  # noqa: TC003 (the command line is read by this annotation)
from typing import Annotated

from cyclopts import Parameter


def view(
    dataset: Path,
    /,
    *,
    open_browser: Annotated[bool, Parameter(name=("--open-browser", "--open"))] = True,
    host: str = "127.0.0.1",
    port: int = 0,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> None:
    """Show a dataset in the browser, by neuroglancer, until Ctrl-C.

    Every setup is a layer under its transforms, coloured by channel; only what is looked at is read. Needs the extra
    "view".

    Parameters
    ----------
    dataset
        The XML, or the pixels.
    open_browser
        Whether a browser is started; without, follow the address that is printed.
    host
        The address that is listened at. By default only this machine reaches it.
    port
        Where the page is; its pixels come from the next port. 0: any two that are free.
    as_json
        Print the address as JSON.
    """
    from rich.console import Console

    from npy2bdv.dataset import open as open_dataset
    from npy2bdv.views.browser import view_in_browser

    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    with (
        open_dataset(dataset) as opened,
        view_in_browser(opened, open_browser=open_browser, host=host, port=port) as shown,
    ):
        forever = threading.Event()
        try:
            console.print(json.dumps({"url": shown.url}) if as_json else f"{shown.url}\nCtrl-C ends it")
            console.file.flush()
            while not forever.wait(0.5):  # in turns, since Windows would else not hear of Ctrl-C
                pass
        except KeyboardInterrupt:
            return
