"""Seconds that edits of a large dataset take: a thousand transforms in one session, edits of all views, the commit.

python benchmarks/edit_100k.py [--views 100000] [--times 10] [--edits 1000]
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import npy2bdv
import xml_100k
from npy2bdv import Affine, ViewId, xml
from npy2bdv.model.spimdata import SpimData


def measured(views: int, n_times: int, n_edits: int) -> dict[str, float]:
    """Return the seconds of each step, in their order, and check what the file says at the end."""
    seconds: dict[str, float] = {}

    def timed(what: str, step: Callable[[], object]) -> object:
        start = time.perf_counter()
        result = step()
        seconds[what] = time.perf_counter() - start
        return result

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.xml"
        path.write_bytes(xml.serialise(xml_100k.dataset(views, n_times)))
        editor = npy2bdv.edit(path)
        editor.close()
        editor = timed("open", lambda: npy2bdv.edit(path))  # type: ignore[assignment]
        with editor:
            found = list(editor.data.views())
            n_edits = min(n_edits, len(found))
            chosen = found[:: max(1, len(found) // n_edits)][:n_edits]

            def one_by_one() -> None:
                for number, view in enumerate(chosen):
                    editor.insert_transform(Affine.translation((number, 0, 0)), name="drift", view=view)

            def by_label() -> None:
                for number, view in enumerate(chosen):
                    editor.replace_transform(
                        "drift",
                        Affine.translation((number, 1, 0)),
                        tile=f"tile {view.setup}",
                        time=view.time,
                    )

            timed(f"{n_edits} transforms, a view each", one_by_one)
            timed(f"{n_edits} transforms, each view by its label", by_label)
            timed(
                "one transform for all views",
                lambda: editor.insert_transform(Affine.scale((2, 2, 2)), name="scale"),
            )
            timed("totals of all views", editor.totals)
            timed("compose the transforms of all views", editor.compose_transforms)
            timed("preview", editor.preview)
            timed("commit, with its backup", editor.commit)
            editor.rename_transform(0, "all", view=chosen[0])
            timed("commit of one further edit", editor.commit)
        check(xml.parse(path.read_bytes()), {view: number for number, view in enumerate(chosen)}, chosen[0])
    return seconds


def check(data: SpimData, drifts: dict[ViewId, int], renamed: ViewId) -> None:
    for view, number in drifts.items():
        (transform,) = data.registrations[view].transforms
        assert transform.affine is not None
        x, y, _ = transform.affine.translation_xyz
        assert (x, y) == (2 * (number + view.setup / 7), 2 * (1 + view.time / 3))
        assert transform.name == ("all" if view == renamed else "composed")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--views", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--edits", type=int, default=1000)
    options = parser.parse_args(argv)
    seconds = measured(options.views, options.times, options.edits)
    print(f"{options.views} views, of which one time point of {options.times} is missing")
    for what, took in seconds.items():
        print(f"{what:45} {took:8.2f} s")
    print(f"{'in all':45} {sum(seconds.values()):8.2f} s")


if __name__ == "__main__":
    main()
