"""What numba must know of records: their type, how they come in, and how their arrays are read."""

import hashlib
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AttributeTemplate
from numba.extending import (
    NativeValue,
    infer_getattr,
    lower_getattr_generic,
    models,
    register_model,
    typeof_impl,
    unbox,
)
from numba.np.arrayobj import make_array, populate_array
from numba.np.numpy_support import from_dtype

ENTRY = 3
"""Numbers that a record's table holds of each array."""


class RecordType(types.Type):
    """The type of a class of records."""

    def __init__(self, name: str, kinds: dict[str, tuple[type, int]]) -> None:
        # The arrays are part of the name, so that what was compiled for others is not taken for it.
        spelled = " ".join(f"{key} {kind.__name__} {n}" for key, (kind, n) in kinds.items())
        super().__init__(f"{name}_{hashlib.sha256(spelled.encode()).hexdigest()[:8]}")
        self.arrays = {key: types.Array(from_dtype(np.dtype(kind)), n, "C") for key, (kind, n) in kinds.items()}


@register_model(RecordType)
class _Model(models.PrimitiveModel):
    """One address."""

    def __init__(self, manager: Any, kind: RecordType) -> None:
        super().__init__(manager, kind, ir.IntType(64))


@infer_getattr
class _Attributes(AttributeTemplate):
    key = RecordType

    def generic_resolve(self, kind: RecordType, name: str) -> Any:
        return kind.arrays.get(name)


@lower_getattr_generic(RecordType)
def _read(context: Any, builder: Any, kind: RecordType, address: Any, name: str) -> Any:
    number, array = list(kind.arrays).index(name), kind.arrays[name]
    table = builder.inttoptr(address, ir.IntType(64).as_pointer())
    values = []
    for i in range(1 + array.ndim):
        value = builder.load(builder.gep(table, [ir.Constant(ir.IntType(64), number * ENTRY + i)]))
        value.set_metadata("invariant.load", builder.module.add_metadata([]))  # it need not be read again
        values.append(value)
    size = context.get_abi_sizeof(context.get_data_type(array.dtype))
    strides = [size] if array.ndim == 1 else [builder.mul(values[2], ir.Constant(ir.IntType(64), size)), size]
    found = make_array(array)(context, builder)
    populate_array(
        found,
        data=builder.inttoptr(values[0], context.get_data_type(array.dtype).as_pointer()),
        shape=values[1:],
        strides=[cgutils.intp_t(each) if isinstance(each, int) else each for each in strides],
        itemsize=cgutils.intp_t(size),
        meminfo=None,
    )
    return found._getvalue()


@unbox(RecordType)
def _unbox(kind: RecordType, value: Any, c: Any) -> NativeValue:
    address = c.pyapi.object_getattr_string(value, "address")
    native = c.pyapi.long_as_longlong(address)
    c.pyapi.decref(address)
    return NativeValue(native)


def register(record: Any) -> None:
    """Let compiled functions take records of a class."""
    kind = RecordType(record.__qualname__, record.kinds)
    typeof_impl.register(record)(lambda _value, _context: kind)
