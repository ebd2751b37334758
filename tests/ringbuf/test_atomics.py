import errno
import os
import platform
import subprocess
import sys
import threading
import time
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir
from numba import njit

from ringbuf import (
    compare_exchange,
    exchange,
    fence,
    fence_acquire,
    fence_release,
    fetch_add,
    fetch_and,
    fetch_or,
    futex_wait,
    futex_wake,
    load_acquire,
    load_relaxed,
    now_ns,
    pause,
    realtime_ns,
    sched_yield,
    store_relaxed,
    store_release,
)
from ringbuf.atomics import (
    emit_compare_exchange,
    emit_futex,
    emit_load,
    emit_pause,
    emit_read_modify_write,
    emit_store,
    futex_syscall_number,
    pause_intrinsic,
)

ROOT = Path(__file__).resolve().parents[2]


@njit(cache=True, nogil=True)
def use_everything(words):
    store_release(words, 0, 5)
    store_relaxed(words, 1, 6)
    old_sum = fetch_add(words, 0, 3)
    old_value = exchange(words, 2, 9)
    not_exchanged = compare_exchange(words, 4, 1, 7)
    found_zero = compare_exchange(words, 4, 0, 8)
    fetch_or(words, 3, 6)
    fetch_and(words, 3, 2)
    fence()
    fence_acquire()
    fence_release()
    pause()
    sched_yield()
    differs = futex_wait(words, 0, 7, 1_000_000_000)
    timed_out = futex_wait(words, 0, 8, 1_000_000)
    woken = futex_wake(words, 0, 1)
    return (
        load_acquire(words, 0),
        load_relaxed(words, 1),
        load_acquire(words, 3),
        old_sum,
        old_value,
        not_exchanged,
        found_zero,
        load_relaxed(words, 4),
        differs,
        timed_out,
        woken,
    )


EVERYTHING = (8, 6, 2, 5, 0, 0, 0, 8, -errno.EAGAIN, -errno.ETIMEDOUT, 0)


@njit(cache=True, nogil=True)
def both_clocks():
    return now_ns(), realtime_ns()


def use_everything_from_python(words):
    return use_everything.py_func(words)


@pytest.mark.parametrize("use", [use_everything, use_everything_from_python])
def test_all_atomics_agree_in_compiled_code_and_from_python(use) -> None:
    assert EVERYTHING == use(np.zeros(8, np.int64))


def test_all_atomics_agree_with_the_jit_disabled() -> None:
    program = (
        "import numpy as np\n"
        "from tests.ringbuf.test_atomics import EVERYTHING, use_everything\n"
        "assert not hasattr(use_everything, 'py_func')\n"
        "assert EVERYTHING == use_everything(np.zeros(8, np.int64))\n"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    environment.pop("NUMBA_CACHE_DIR")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_strided_words_are_addressed_by_their_stride() -> None:
    words = np.arange(12, dtype=np.int64)
    assert load_acquire(words[::3], 2) == 6
    assert futex_wait(words[::3], 2, 7, 1_000) == -errno.EAGAIN


@pytest.mark.parametrize("words", [np.zeros(2, np.int32), np.zeros((2, 2), np.int64), np.zeros(2, np.float64)])
def test_words_of_another_type_are_refused_at_compile_time(words: np.ndarray) -> None:
    with pytest.raises(Exception, match="load_acquire"):
        load_acquire(words, 0)


def test_clocks_agree_with_those_of_python() -> None:
    monotonic_ns, utc_ns = both_clocks()
    assert abs(time.monotonic_ns() - monotonic_ns) < 5_000_000_000
    assert abs(time.time_ns() - utc_ns) < 5_000_000_000
    assert monotonic_ns <= now_ns()


def test_futex_wake_ends_a_wait_in_compiled_code_that_holds_no_lock() -> None:
    words = np.zeros(1, np.int64)
    futex_wait(words, 0, 1, 1)
    results: list[int] = []
    sleeper = threading.Thread(target=lambda: results.append(futex_wait(words, 0, 0, 20_000_000_000)))
    began = time.monotonic()
    sleeper.start()
    while futex_wake(words, 0, 1) == 0:
        assert time.monotonic() - began < 10
    sleeper.join()
    assert [0] == results
    assert time.monotonic() - began < 10


def test_fetch_add_by_several_threads_loses_nothing() -> None:
    words = np.zeros(1, np.int64)
    add_often(words, 0)
    threads = [threading.Thread(target=add_often, args=(words, 100_000)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 400_000 == words[0]


@njit(cache=True, nogil=True)
def add_often(words, times):
    for _ in range(times):
        fetch_add(words, 0, 1)


def test_words_that_several_threads_swap_when_unchanged_lose_nothing() -> None:
    words = np.zeros(1, np.int64)
    swap_often(words, 0)
    threads = [threading.Thread(target=swap_often, args=(words, 50_000)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 200_000 == words[0]


@njit(cache=True, nogil=True)
def swap_often(words, times):
    for _ in range(times):
        seen = load_relaxed(words, 0)
        while True:
            found = compare_exchange(words, 0, seen, seen + 1)
            if found == seen:
                break
            seen = found


def test_relaxed_load_is_not_hoisted_out_of_a_spin_loop() -> None:
    words = np.zeros(1, np.int64)
    assert spin_until(words, 0, now_ns()) == 0
    threading.Timer(0.05, lambda: store_release(words, 0, 1)).start()
    assert spin_until(words, 1, now_ns() + 20_000_000_000) == 1


@njit(cache=True, nogil=True)
def spin_until(words, wanted, deadline_ns):
    while load_relaxed(words, 0) != wanted and now_ns() < deadline_ns:
        pass
    return load_relaxed(words, 0)


CACHED_PROGRAM = """
import numpy as np
from tests.ringbuf.test_atomics import EVERYTHING, both_clocks, use_everything
from ringbuf import now_ns
assert EVERYTHING == use_everything(np.zeros(8, np.int64))
before = now_ns()
assert before <= both_clocks()[0] <= now_ns()
hits = sum(use_everything.stats.cache_hits.values()) + sum(both_clocks.stats.cache_hits.values())
misses = sum(use_everything.stats.cache_misses.values()) + sum(both_clocks.stats.cache_misses.values())
libc = next(int(line.split("-")[0], 16) for line in open("/proc/self/maps") if "libc" in line)
print(hits, misses, libc)
"""


def test_kernels_cached_by_one_process_work_in_another_where_the_c_library_lies_elsewhere(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    environment.pop("NUMBA_CACHE_DIR")
    runs = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", CACHED_PROGRAM], cwd=ROOT, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        runs.append([int(word) for word in done.stdout.split()])
    assert [0, 2] == runs[0][:2]
    assert [2, 0] == runs[1][:2] == runs[2][:2]
    if Path("/proc/sys/kernel/randomize_va_space").read_text(encoding="ascii").strip() != "0":
        assert len({libc for _, _, libc in runs}) > 1, "the library lay at one address in three processes"


# --- Arm, on any machine


def emitted(machine: str) -> ir.Module:
    """A module with one of each instruction, as emitted for ``machine``."""
    module = ir.Module(name="probe")
    word = ir.IntType(64)
    function = ir.Function(module, ir.FunctionType(word, [word.as_pointer(), word]), "probe")
    builder = ir.IRBuilder(function.append_basic_block())
    pointer, value = function.args
    emit_pause(builder, machine)
    loaded = emit_load(builder, pointer, "acquire")
    emit_store(builder, pointer, value, "release")
    builder.fence("seq_cst")
    builder.fence("acquire")
    builder.fence("release")
    added = emit_read_modify_write(builder, "add", pointer, value)
    added = builder.add(added, emit_compare_exchange(builder, pointer, loaded, value))
    waited = emit_futex(builder, futex_syscall_number(machine), pointer, 0, value, value)
    builder.ret(builder.add(loaded, builder.add(added, waited)))
    return module


@pytest.mark.parametrize(
    ("machine", "hint", "futex"),
    [
        ("x86_64", "llvm.x86.sse2.pause", 202),
        ("AMD64", "llvm.x86.sse2.pause", 202),
        ("aarch64", "llvm.aarch64.hint", 98),
        ("arm64", "llvm.aarch64.hint", 98),
    ],
)
def test_instructions_are_chosen_by_machine(machine: str, hint: str, futex: int) -> None:
    assert pause_intrinsic(machine)[0] == hint
    assert futex_syscall_number(machine) == futex
    text = str(emitted(machine))
    assert f'@"{hint}"' in text
    assert f"i64 {futex}" in text
    for part in (
        "load atomic i64",
        " acquire, align 8",
        " release, align 8",
        "fence seq_cst",
        "atomicrmw add",
        "cmpxchg",
    ):
        assert part in text, part


def test_arm_code_has_acquire_release_barrier_and_yield_instructions() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        target = llvm.Target.from_triple("aarch64-unknown-linux-gnu")
    except RuntimeError:
        pytest.skip("this build of LLVM has no Arm target; the choice of instructions is tested above")
    module = llvm.parse_assembly(str(emitted("aarch64")))
    module.verify()
    assembly = target.create_target_machine().emit_assembly(module)
    for instruction in ("ldar", "stlr", "dmb\tish", "dmb\tishld", "ldaxr", "stlxr", "yield"):
        assert instruction in assembly, instruction


@pytest.mark.parametrize("choose", [pause_intrinsic, futex_syscall_number])
def test_unknown_machine_is_named(choose) -> None:
    with pytest.raises(NotImplementedError, match=r"'riscv64'.*x86_64 and aarch64"):
        choose("riscv64")


def test_this_machine_is_supported() -> None:
    assert pause_intrinsic(platform.machine())
