import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ringbuf import kernel_cache
from ringbuf.kernel_cache import KernelCacheError, cache_name, configure, kernel_sources

DAY_S = 86_400


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A tree with one kernel, what it imports by each form of the statement, and files that no kernel sees."""
    files = {
        "protocol/__init__.py": "from protocol.enums import BUY\n",
        "protocol/enums.py": "BUY = 1\n",
        "ringbuf/__init__.py": "",
        "ringbuf/atomics.py": "import numba\n",
        "matcher/__init__.py": "",
        "matcher/book.py": (
            "from ringbuf import atomics\nfrom . import levels\nfrom .deep.pool import FREE\nimport protocol\n"
        ),
        "matcher/levels.py": "import matcher.limits\n",
        "matcher/limits.py": "LEVELS_MAX = 8\n",
        "matcher/deep/__init__.py": "",
        "matcher/deep/pool.py": "from ..sizes import (\n    SIZE,\n)\n",
        "matcher/sizes.py": "SIZE = 64\n",
        "matcher/kernel.py": "from numba import njit\nfrom matcher.book import match\n",
        "matcher/process.py": "import time\n",
        "protocol/jit.py": "from numba import njit\nentry = njit(cache=True)\n",
        "risk/__init__.py": "",
        "risk/kernel.py": (
            "from protocol.jit import entry\ndef f():\n    from risk \\\n        import fees as f, marks\n"
        ),
        "risk/fees.py": "FEE = 1\n",
        "risk/marks.py": "MARK = 1\n",
        "risk/process.py": "import sys\n",
        "cambist/cli.py": "from matcher.process import main\n",
    }
    for name, text in files.items():
        path = tmp_path / "sources" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "sources"


@pytest.fixture
def unimported_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide that an earlier test imported numba, and give the environment back afterwards."""
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    monkeypatch.setenv("NUMBA_CACHE_DIR", os.environ["NUMBA_CACHE_DIR"])


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("NUMBA_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=inherited | environment,
        cwd=Path(kernel_cache.__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_kernel_sources_are_files_that_speak_of_numba_and_all_that_they_import(sources: Path) -> None:
    expected = [
        "matcher/book.py",
        "matcher/deep/pool.py",
        "matcher/kernel.py",
        "matcher/levels.py",
        "matcher/limits.py",
        "matcher/sizes.py",
        "protocol/__init__.py",
        "protocol/enums.py",
        "protocol/jit.py",
        "ringbuf/__init__.py",
        "ringbuf/atomics.py",
        "risk/__init__.py",
        "risk/fees.py",
        "risk/kernel.py",
        "risk/marks.py",
    ]
    # `from . import levels` names the package itself too.
    assert sorted([*expected, "matcher/__init__.py"]) == list(kernel_sources(sources))


@pytest.mark.parametrize(
    "edited", ["protocol/enums.py", "matcher/limits.py", "matcher/sizes.py", "risk/marks.py", "risk/kernel.py"]
)
def test_edit_of_a_kernel_or_of_what_it_imports_changes_the_cache(sources: Path, edited: str) -> None:
    before = cache_name(sources)
    path = sources / edited
    path.write_text(path.read_text() + "EDITED = 1\n")
    assert before != cache_name(sources)


@pytest.mark.parametrize("edited", ["matcher/process.py", "cambist/cli.py"])
def test_edit_of_a_file_that_no_kernel_imports_keeps_the_cache(sources: Path, edited: str) -> None:
    before = cache_name(sources)
    (sources / edited).write_text("EDITED = 1\n")
    assert before == cache_name(sources)


def test_renamed_kernel_file_changes_the_cache(sources: Path) -> None:
    before = cache_name(sources)
    (sources / "matcher/kernel.py").rename(sources / "matcher/kernel_2.py")
    assert before != cache_name(sources)


def test_kernel_file_with_a_syntax_error_changes_the_cache_like_any_edit(sources: Path) -> None:
    before = cache_name(sources)
    (sources / "matcher/kernel.py").write_text("from numba import njit\ndef broken(:\n")
    assert before != cache_name(sources)


def test_moved_source_tree_keeps_the_cache_name(sources: Path) -> None:
    before = cache_name(sources)
    assert before == cache_name(sources.rename(sources.parent / "moved"))


@pytest.mark.parametrize("variable", kernel_cache.MODE_VARIABLES)
def test_change_of_mode_changes_the_cache(sources: Path, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(variable, raising=False)
    before = cache_name(sources)
    monkeypatch.setenv(variable, "1")
    assert before != cache_name(sources)


@pytest.mark.usefixtures("unimported_numba")
def test_configure_creates_a_private_directory_and_names_it_to_numba(tmp_path: Path) -> None:
    cache = configure(tmp_path / "kernels")
    assert tmp_path / "kernels" == cache.parent
    assert 0o700 == cache.stat().st_mode & 0o777
    assert str(cache) == os.environ["NUMBA_CACHE_DIR"]


@pytest.mark.usefixtures("unimported_numba")
def test_configure_without_a_root_uses_the_xdg_cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tmp_path / "cambist" / "kernels" == configure().parent


@pytest.mark.parametrize("ignored", ["", "relative/folder"])
def test_default_root_without_an_absolute_xdg_cache_home_is_in_the_home(
    ignored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", ignored)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tmp_path / ".cache" / "cambist" / "kernels" == kernel_cache.default_root()


@pytest.mark.usefixtures("unimported_numba")
def test_configure_removes_only_caches_unused_for_too_long(tmp_path: Path) -> None:
    root = tmp_path / "kernels"
    now_s = time.time()
    ages_days = {"0" * 32: 15, "1" * 32: 13, "not-a-cache": 400}
    for name, age_days in ages_days.items():
        (root / name / "book").mkdir(parents=True)
        os.utime(root / name, (now_s, now_s - age_days * DAY_S))
    cache = configure(root)
    assert {"1" * 32, "not-a-cache", cache.name} == {path.name for path in root.iterdir()}


@pytest.mark.usefixtures("unimported_numba")
def test_configure_again_marks_its_own_old_cache_as_used(tmp_path: Path) -> None:
    cache = configure(tmp_path)
    os.utime(cache, (0, 0))
    assert cache == configure(tmp_path)
    assert time.time() - cache.stat().st_mtime < DAY_S


@pytest.mark.usefixtures("unimported_numba")
def test_configure_where_a_file_is_in_the_way_names_the_path_and_the_cure(tmp_path: Path) -> None:
    (tmp_path / "kernels").write_text("")
    with pytest.raises(KernelCacheError, match=r"cannot write the kernel cache .*/kernels/.*XDG_CACHE_HOME"):
        configure(tmp_path / "kernels")


def test_package_import_leaves_numba_unimported() -> None:
    done = run_python("import sys, ringbuf.kernel_cache; sys.exit('numba' in sys.modules or 'numpy' in sys.modules)")
    assert 0 == done.returncode, f"importing ringbuf.kernel_cache must not import numba or numpy: {done.stderr}"


def test_configure_before_numba_decides_where_numba_caches(tmp_path: Path) -> None:
    code = (
        "from ringbuf.kernel_cache import configure\n"
        "cache = configure()\n"
        "import numba\n"
        "assert numba.config.CACHE_DIR == str(cache)\n"
        "assert cache == configure()\n"
    )
    done = run_python(code, XDG_CACHE_HOME=str(tmp_path))
    assert 0 == done.returncode, done.stderr


def test_configure_after_numba_is_refused_with_the_cure(tmp_path: Path) -> None:
    code = "import numba\nfrom ringbuf.kernel_cache import configure\nconfigure()\n"
    done = run_python(code, XDG_CACHE_HOME=str(tmp_path))
    assert 1 == done.returncode
    assert "numba was imported before the kernel cache was configured" in done.stderr
    assert "call ringbuf.kernel_cache.configure() before the first import of numba" in done.stderr
