"""What `import npy2bdv` gives, and what it costs."""

import subprocess
import sys
import types

import pytest

import npy2bdv

HEAVY = {
    "h5py",
    "isal",
    "lxml",
    "tifffile",
    "cyclopts",
    "rich",
    "dask",
    "tensorstore",
    "matplotlib",
    "napari",
}


def in_fresh_python(code: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.split()


def test_import_pulls_numpy_and_the_standard_library_only() -> None:
    loaded = in_fresh_python(
        "import sys; before = set(sys.modules); import npy2bdv\n"
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )
    assert "npy2bdv" in loaded
    assert set(loaded) - {"npy2bdv", "numpy"} <= sys.stdlib_module_names


def test_help_of_the_command_loads_nothing_heavy_for_pixels() -> None:
    loaded = in_fresh_python(
        "import sys, io; from npy2bdv.cli import main; sys.stdout = io.StringIO()\n"
        "main(['--help']); sys.stdout = sys.__stdout__\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    assert "cyclopts" in loaded
    assert not (HEAVY - {"cyclopts", "rich"}) & set(loaded)


@pytest.mark.parametrize("name", npy2bdv.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(npy2bdv, name)
    assert value.__doc__
    if name != "npy2bdv":
        assert not isinstance(value, types.ModuleType), "a function must not be hidden by its module"
        assert value.__name__ == name


def test_functions_stay_functions_after_their_modules_were_imported() -> None:
    assert in_fresh_python(
        "import npy2bdv, npy2bdv.resave, npy2bdv.downsample\n"
        "print(type(npy2bdv.resave).__name__, type(npy2bdv.downsample).__name__)"
    ) == ["function", "function"]


def test_the_module_of_1x_is_where_it_was() -> None:
    from npy2bdv.npy2bdv import BdvEditor, BdvWriter

    assert npy2bdv.npy2bdv.BdvEditor is BdvEditor is npy2bdv.BdvEditor
    assert npy2bdv.BdvWriter is BdvWriter


def test_version_says_which_package_is_installed() -> None:
    assert int(npy2bdv.__version__.split(".")[0]) >= 2
    assert npy2bdv.BdvWriter.__version__ == npy2bdv.__version__


def test_dir_and_unknown_names() -> None:
    assert {*npy2bdv.__all__, "__version__"} <= set(dir(npy2bdv))
    with pytest.raises(AttributeError, match="has no attribute 'crate'"):
        npy2bdv.crate  # noqa: B018
