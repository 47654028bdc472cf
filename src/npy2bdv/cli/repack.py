"""``npy2bdv repack``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (the command line is read by this annotation)


def repack(dataset: Path, /) -> None:
    """Give the space back that an HDF5 file holds and nothing uses: after a crop, after views were removed.

    All that is in the file is copied into a new one, chunks as they lie; the copy is compared with the original, and
    takes its name. Meanwhile both are on the disk. Of a partitioned dataset only the named file is repacked.

    Parameters
    ----------
    dataset
        The XML of a dataset in HDF5, or the HDF5 file.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from npy2bdv.repack import repack as give_back

    terminal = Console(stderr=True)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
        task = bar.add_task("")
        done = give_back(
            dataset, progress=lambda nbytes, total: bar.update(task, completed=nbytes, total=total)
        )
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    before, after = done.bytes_before / 1e6, done.bytes_after / 1e6
    if done.saved:
        console.print(f"{done.path}: {after:.1f} MB, {before - after:.1f} MB less than before")
    else:
        console.print(f"{done.path}: {before:.1f} MB; there is nothing to be given back, it stays as it was")
