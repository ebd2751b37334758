"""How kernels are compiled.

``inner`` functions are called from kernels only: without wrappers for Python calls and without files of their own in the
on-disk cache they compile several times faster. ``entry`` functions are called from Python: cached on disk, and they
release the GIL. ``_nrt=False``: kernels allocate nothing, so that no reference is counted. Both run as plain Python
functions with ``NUMBA_DISABLE_JIT=1``.

numba by itself optimises every function together with all that it calls, and makes machine code of it, before its caller is
looked at: each level of calls pays for all levels below. Here an ``inner`` function stays unoptimised LLVM code until an
``entry`` links all that it reaches, once, makes it private, so that what is called at one place is written there, and optimises that. It
takes a quarter off the time of compiling, and rests on methods of numba's code library and dispatcher (0.68, pinned).

Whether a function is written where it is called is said of each: numba would take it over from the caller that it is compiled
for, and the whole of a matcher would be one function of 200,000 instructions.

A kernel that calls another with integers of fewer than 64 bits, as fields of records are, hands them over as int64: otherwise
there would be a version of the function for each combination of widths that any caller has.

Kernels never count an index from the end: it is not negative. numba would add the length to one that is, four instructions at
each access; here it does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final

from llvmlite import binding as llvm
from numba import config, njit, types
from numba.core import typed_passes, untyped_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager
from numba.np import arrayobj

from protocol import numba_patches


def _index_as_it_is(context: Any, builder: Any, index_type: Any, index: Any, _size: Any) -> Any:
    return context.cast(builder, index, index_type, types.intp if index_type.signed else types.uintp)


arrayobj.fix_integer_index = _index_as_it_is
numba_patches.apply()


class _NoEnvironment:
    """Stands for the code generator where numba gives a function the environment of its Python wrapper, which it does not have."""

    def set_env(self, env_name: str, env: Any) -> None:
        """Do nothing."""


class _InnerLibrary(JITCodeLibrary):
    """The code of one ``inner`` function; what it calls is only remembered."""

    _linking_libraries: list[Any]
    _shared_module: Any

    @property
    def codegen(self) -> Any:
        return _NoEnvironment()

    def add_linking_library(self, library: Any) -> None:
        self._linking_libraries.append(library)

    def finalize(self) -> None:
        self._raise_if_finalized()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:  # noqa: ARG002 - numba's interface: there is no machine code
        return 0

    def _get_module_for_linking(self) -> Any:
        """For callers that are compiled in numba's own way: this function and all that it reaches."""
        if self._shared_module is None:
            module = self.own_module().clone()
            for library in _reached([self]):
                if library is not self:
                    module.link_in(_module_of(library), preserve=True)
            self._shared_module = module
        return self._shared_module

    def own_module(self) -> Any:
        """The function alone, as code that may be linked in several times."""
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage == llvm.Linkage.external:
                function.linkage = "linkonce_odr"
        return self._final_module


class _EntryLibrary(JITCodeLibrary):
    """The code of an ``entry`` function with every ``inner`` one that it reaches."""

    _linking_libraries: list[Any]

    def add_linking_library(self, library: Any) -> None:
        self._linking_libraries.append(library)

    def finalize(self) -> None:
        own = {function.name for function in self._final_module.functions if not function.is_declaration}
        for library in _reached(self._linking_libraries):
            self._final_module.link_in(_module_of(library), preserve=True)
        whose = hashlib.blake2b(" ".join(sorted(own)).encode(), digest_size=8).hexdigest()
        for function in self._final_module.functions:
            if not function.is_declaration and function.name not in own:
                function.linkage = llvm.Linkage.internal
                # The linker of loaded code takes a private function, whose unused arguments are gone, for another object's of that name.
                function.name = f"{whose}.{function.name}"
        self._linking_libraries = []
        super().finalize()


def _module_of(library: Any) -> Any:
    return library.own_module() if isinstance(library, _InnerLibrary) else library._get_module_for_linking()  # noqa: SLF001


def _reached(libraries: list[Any]) -> Iterator[Any]:
    seen = set()
    waiting = list(reversed(libraries))
    while waiting:
        library = waiting.pop()
        if library in seen:
            continue
        seen.add(library)
        yield library
        if isinstance(library, _InnerLibrary):
            waiting += reversed(library._linking_libraries)  # noqa: SLF001


# Kernels have no `with`, no closures, no literal_unroll, no numba functions that ask to be written in place before types
# are known, no expressions of whole arrays; and nobody reads the annotated source.
_PASSES_NOT_NEEDED: Final = (
    untyped_passes.WithLifting,
    untyped_passes.InlineClosureLikes,
    untyped_passes.RewriteDynamicRaises,
    untyped_passes.MakeFunctionToJitFunction,
    untyped_passes.InlineInlinables,
    untyped_passes.FindLiterallyCalls,
    untyped_passes.LiteralUnroll,
    untyped_passes.LiteralPropagationSubPipelinePass,
    typed_passes.InlineOverloads,
    typed_passes.NopythonRewrites,
    typed_passes.AnnotateTypes,
    typed_passes.DumpParforDiagnostics,
)


def _pipelines(state: Any) -> list[Any]:
    state.type_annotation = None
    whole = DefaultPassBuilder.define_nopython_pipeline(state)
    needed = PassManager("kernel")
    needed.passes = [added for added in whole.passes if added[0] not in _PASSES_NOT_NEEDED]
    needed.finalize()
    return [needed]


class _InnerCompiler(CompilerBase):
    def define_pipelines(self) -> Any:
        state = self.state
        state.library = _InnerLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        return _pipelines(state)


class _EntryCompiler(CompilerBase):
    def define_pipelines(self) -> Any:
        state = self.state
        state.library = _EntryLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return _pipelines(state)


INNER: Final[dict[str, Any]] = {
    "_nrt": False,
    "forceinline": False,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "pipeline_class": _InnerCompiler,
}
ENTRY: Final[dict[str, Any]] = {
    "cache": True,
    "nogil": True,
    "_nrt": False,
    "forceinline": False,
    "no_cfunc_wrapper": True,
    "pipeline_class": _EntryCompiler,
}


def _of_any_integer(dispatcher: Any) -> Any:
    if config.DISABLE_JIT:
        return dispatcher
    resolve = dispatcher.get_call_template

    def get_call_template(args: tuple[Any, ...], kws: dict[str, Any]) -> Any:
        return resolve(tuple(map(_widened, args)), {name: _widened(given) for name, given in kws.items()})

    dispatcher.get_call_template = get_call_template
    return dispatcher


def _widened(given: Any) -> Any:
    return types.int64 if isinstance(given, types.Integer) and given != types.uint64 else given


def inner(function: Any) -> Any:
    """Decorator of what kernels call."""
    return _of_any_integer(njit(**INNER)(function))


def entry(function: Any) -> Any:
    """Decorator of what Python calls, and kernels may."""
    return _of_any_integer(njit(**ENTRY)(function))
