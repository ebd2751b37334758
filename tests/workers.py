"""A run in several workers (``-n 2``): who runs what, and kernel caches, filled before the first test, one for each worker.

numba reads its index of a kernel's versions, adds one and writes it back: two processes that compile one kernel for
different types at the same moment may leave an index that names the machine code of the other. So workers share no
cache. They begin with copies of one that was filled at once: no test has to wait for what two workers compile.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cambist.config import Config, UpSection
from cambist.home import Home
from cambist.processes import table
from ringbuf.kernel_cache import default_root

# Beyond those of an exchange; the matcher that tests drive is compiled from the parts of the one beside it.
MORE = ("cambist.replay.collect", "cambist.replay.convert", "tests.matcher.driver")
ROOT = Path(__file__).resolve().parent.parent
BY_FILE = "tests/live"
_COMPILE = """
import sys
from ringbuf.kernel_cache import configure
configure()
from cambist.warm import compile_all
compile_all(sys.argv[1:], lambda *_: None)
"""


def cache_homes(workers: Sequence[str], name: str, tell: Callable[[str], None]) -> dict[str, Path]:
    """Folder of each worker that is to be its ``XDG_CACHE_HOME``; the cache ``name`` in it is filled."""
    homes = {worker: default_root().parent / "tests" / worker for worker in workers}
    absent = [cache for home in homes.values() if not (cache := _kernels(home) / name).is_dir()]
    if absent:
        tell("Compiling the kernels, once for these sources …")
        homes[workers[0]].mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=homes[workers[0]]) as folder:
            modules = (*table(Home(Path(folder)), Config(up=UpSection(demo=True))).modules, *MORE)
            environment = os.environ | {"XDG_CACHE_HOME": folder}
            subprocess.run([sys.executable, "-c", _COMPILE, *modules], env=environment, cwd=ROOT, check=True)
            for cache in absent:
                # Whole or absent, whatever ends this process.
                copy = Path(folder) / cache.parents[2].name
                shutil.copytree(_kernels(Path(folder)) / name, copy)
                cache.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                copy.rename(cache)
    return homes


def by_folder(config: Any, log: Any) -> Any:
    """Scheduler that keeps a folder with one worker, because its tests compile the same kernels; the large one goes by files."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFolder(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            folder = file.rpartition("/")[0]
            return file if folder == BY_FILE else folder

    return ByFolder(config, log)


def _kernels(home: Path) -> Path:
    return home / "cambist" / "kernels"
