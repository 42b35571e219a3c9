"""Compiled functions that call one another by their addresses, so that each is compiled by itself."""

from typing import Any

from numba import types
from numba.extending import intrinsic


def _call(_context: Any, address: Any, number: Any, model: Any, sample: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    arguments = (types.int64, model, sample, *[types.int64] * 4)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = context.call_conv.get_function_type(types.int64, arguments)
        function = builder.inttoptr(values[0], kind.as_pointer())
        given = [
            context.cast(builder, value, own, wanted)
            for value, own, wanted in zip(values[1:], signature.args[1:], arguments, strict=True)
        ]
        _, result = context.call_conv.call_function(builder, function, types.int64, arguments, given)
        return result

    return types.int64(types.int64, *arguments), generate


call: Any = intrinsic(_call)
"""Calls the kernel at an address, of seven arguments of which all but the second and third are whole numbers; it
returns one too. See `Kernel.address`."""
