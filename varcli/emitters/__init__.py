"""Emitters: camera stacks become tables of molecules, coarse to fine.

The classes of the predictor can be imported from here; they load when they are first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from varcli.emitters.network.blocks import AdaLNSelfAttn
    from varcli.emitters.network.loss import VAREmitterLoss
    from varcli.emitters.network.model import TrueVAREmitterPredictor
    from varcli.emitters.network.quantizer import EmitterVectorQuantizer

__all__ = ["AdaLNSelfAttn", "EmitterVectorQuantizer", "TrueVAREmitterPredictor", "VAREmitterLoss"]

_HOMES = {
    "AdaLNSelfAttn": "network.blocks",
    "EmitterVectorQuantizer": "network.quantizer",
    "TrueVAREmitterPredictor": "network.model",
    "VAREmitterLoss": "network.loss",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
