import os
import subprocess
import sys
import threading
import time

from cambist import procfs


def test_processor_time_keeps_that_of_threads_that_have_ended() -> None:
    def work() -> None:
        end_ns = time.thread_time_ns() + 50_000_000
        while time.thread_time_ns() < end_ns:
            pass

    before_ns = procfs.cpu_ns(os.getpid())
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert procfs.cpu_ns(os.getpid()) - before_ns >= 50_000_000


def test_a_child_has_a_parent_and_time_until_it_ends() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert os.getpid() == procfs.parent(process.pid)
    while procfs.cpu_ns(process.pid) == 0:
        time.sleep(0.01)
    process.communicate(b"\n")
    assert (0, 0) == (procfs.parent(process.pid), procfs.cpu_ns(process.pid))
    assert (0, 0) == (procfs.parent(0), procfs.cpu_ns(0))
