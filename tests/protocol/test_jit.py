"""How kernels are linked."""

from typing import Any

import numpy as np
import pytest
from llvmlite import binding as llvm
from numba import config, njit
from numba.core.codegen import JITCodeLibrary

from protocol.jit import ENTRY, inner


@inner
def part(words, at, unused):
    words[at] += 1
    return words[at]


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is linked in plain Python")
def test_functions_that_are_private_to_an_entry_have_names_that_no_other_object_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Code that is loaded later would be linked to them, and they may have lost the arguments that they do not use."""
    private: list[set[str]] = []
    finalize = JITCodeLibrary.finalize

    def noted(library: Any) -> None:
        functions = library._final_module.functions
        names = {f.name for f in functions if f.linkage == llvm.Linkage.internal and not f.is_declaration}
        private.extend([names] if names else [])
        finalize(library)

    monkeypatch.setattr(JITCodeLibrary, "finalize", noted)
    for step in (1, 2):

        def outer(words, step=step):
            return part(words, step, 7)

        assert 1 == njit(**{**ENTRY, "cache": False})(outer)(np.zeros(64, dtype=np.int64))
    first, second = private
    assert any("part" in name for name in first)
    assert set() == first & second
