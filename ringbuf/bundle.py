"""A bundle: many arrays that kernels take by one pointer.

A kernel over a large state would otherwise pass every array by value through every call (seven machine words each),
which costs seconds of compile time a function and registers at run time. A bundle is one pointer to a directory of
addresses and shapes; ``bundle.name`` in compiled code builds the array from it, without reference counting: the Python
object must outlive the call and keeps its arrays alive. In plain Python ``bundle.name`` is the array itself.

Members are C-contiguous arrays, NamedTuples of such arrays (a ``Ring``), or bundles. ``bundle_at(model, address)`` is the
bundle of the same kind as ``model`` that lies at an address, so that a table of addresses stands for a list of them.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.extending import (
    NativeValue,
    infer_getattr,
    lower_getattr_generic,
    models,
    register_model,
    typeof_impl,
    unbox,
)
from numba.core.typing.templates import AttributeTemplate
from numba.extending import lower_builtin, type_callable
from numba.np.arrayobj import populate_array

__all__ = ["Bundle", "bundle_at"]

_types: dict[Any, BundleType] = {}
_bundles: weakref.WeakValueDictionary[int, Bundle] = weakref.WeakValueDictionary()


class Bundle:
    """Named arrays behind one pointer; see the module's text. ``Bundle(holds=array, commands=ring)``."""

    address: int

    def __init__(self, **members: Any) -> None:
        words: list[int] = []
        for name, member in members.items():
            if isinstance(member, Bundle):
                words.append(member.address)
                continue
            for array in _leaves(member):
                if not array.flags.c_contiguous:
                    msg = f"bundle member {name!r} must be C-contiguous"
                    raise ValueError(msg)
                words += [array.ctypes.data, *array.shape]
        self._members = members
        self.__dict__.update(members)
        self.directory = np.array(words, dtype=np.int64)
        self.address: int = int(self.directory.ctypes.data)
        self.numba_type: BundleType | None = None
        _bundles[self.address] = self

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Members are set by name; to a type checker they may be any."""

    def members(self) -> dict[str, Any]:
        """The members by name."""
        return dict(self._members)


def _leaves(member: Any) -> tuple[np.ndarray, ...]:
    return tuple(member) if isinstance(member, tuple) else (member,)


class BundleType(types.Type):
    """Numba's type of a bundle: names and types of its members, in order."""

    def __init__(self, fields: tuple[tuple[str, Any], ...]) -> None:
        self.fields = fields
        super().__init__(name=f"Bundle({', '.join(f'{n}:{t}' for n, t in fields)})")

    def member(self, name: str) -> tuple[int, Any] | None:
        """(first directory word, type) of a member."""
        word = 0
        for field, kind in self.fields:
            if field == name:
                return word, kind
            word += _word_count(kind)
        return None


def bundle_at(_model: Bundle, address: int) -> Bundle:
    """The bundle at ``address``, of the same members as ``_model``; it must be alive."""
    return _bundles[address]


def _word_count(kind: Any) -> int:
    return 1 if isinstance(kind, BundleType) else sum(1 + a.ndim for a in _array_types(kind))


def _array_types(kind: Any) -> tuple[Any, ...]:
    return tuple(kind) if isinstance(kind, types.BaseTuple) else (kind,)


@typeof_impl.register(Bundle)
def _typeof_bundle(value: Bundle, context: Any) -> BundleType:
    if value.numba_type is None:
        # Asking numba for the types of a state's arrays takes a millisecond, and most bundles are like an earlier one.
        kind = _kind(value)
        if kind not in _types:
            _types[kind] = BundleType(tuple((n, typeof_impl(m, context)) for n, m in value.members().items()))
        value.numba_type = _types[kind]
    return value.numba_type


def _kind(member: Any) -> Any:
    """What numba's type of a bundle, a ring or an array depends on."""
    if isinstance(member, Bundle):
        return tuple((name, _kind(part)) for name, part in member.members().items())
    if isinstance(member, tuple):
        return type(member), *(_kind(part) for part in member)
    return member.dtype, member.ndim, member.flags.writeable, member.flags.aligned


register_model(BundleType)(models.OpaqueModel)


@unbox(BundleType)
def _unbox_bundle(_typ: Any, obj: Any, c: Any) -> NativeValue:
    address = c.pyapi.object_getattr_string(obj, "address")
    value = c.pyapi.long_as_ulonglong(address)
    c.pyapi.decref(address)
    return NativeValue(c.builder.inttoptr(value, cgutils.voidptr_t))


@infer_getattr
class _BundleAttribute(AttributeTemplate):
    key = BundleType

    def generic_resolve(self, typ: BundleType, attr: str) -> Any:
        found = typ.member(attr)
        return None if found is None else found[1]


@lower_getattr_generic(BundleType)
def _lower_member(context: Any, builder: Any, typ: BundleType, value: Any, attr: str) -> Any:
    found = typ.member(attr)
    assert found is not None
    word, kind = found
    directory = builder.bitcast(value, ir.IntType(64).as_pointer())
    if isinstance(kind, BundleType):
        address = builder.load(builder.gep(directory, [ir.Constant(ir.IntType(64), word)]))
        return builder.inttoptr(address, cgutils.voidptr_t)
    built = []
    for array_type in _array_types(kind):
        built.append(_build_array(context, builder, directory, word, array_type))
        word += 1 + array_type.ndim
    if isinstance(kind, types.BaseTuple):
        return context.make_tuple(builder, kind, built)
    return built[0]


@type_callable(bundle_at)
def _type_bundle_at(_context: Any) -> Any:
    def typer(model: Any, address: Any) -> Any:
        return model if isinstance(model, BundleType) and isinstance(address, types.Integer) else None

    return typer


@lower_builtin(bundle_at, BundleType, types.Integer)
def _lower_bundle_at(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
    return builder.inttoptr(args[1], cgutils.voidptr_t)


def _build_array(context: Any, builder: Any, directory: Any, word: int, array_type: Any) -> Any:
    def load(i: int) -> Any:
        return builder.load(builder.gep(directory, [ir.Constant(ir.IntType(64), i)]))

    array = context.make_array(array_type)(context, builder)
    data_type = array.data.type
    item_bytes = context.get_abi_sizeof(context.get_data_type(array_type.dtype))
    intp = context.get_value_type(types.intp)
    shape = [load(word + 1 + k) for k in range(array_type.ndim)]
    strides = [ir.Constant(intp, item_bytes)]
    for extent in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], extent))
    populate_array(
        array,
        data=builder.inttoptr(load(word), data_type),
        shape=cgutils.pack_array(builder, shape, ty=intp),
        strides=cgutils.pack_array(builder, strides, ty=intp),
        itemsize=ir.Constant(intp, item_bytes),
        meminfo=None,
    )
    return array._getvalue()  # noqa: SLF001 - numba's own way to the value of a struct proxy
