"""Emitters: camera stacks become tables of molecules, coarse to fine.

The classes of the predictor can be imported from here; they load when they are first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from varcli.emitters.attention import AdaLNSelfAttn
    from varcli.emitters.loss import VAREmitterLoss
    from varcli.emitters.model import TrueVAREmitterPredictor
    from varcli.emitters.quantizer import EmitterVectorQuantizer

__all__ = ["AdaLNSelfAttn", "EmitterVectorQuantizer", "TrueVAREmitterPredictor", "VAREmitterLoss"]

_HOMES = {
    "AdaLNSelfAttn": "attention",
    "EmitterVectorQuantizer": "quantizer",
    "TrueVAREmitterPredictor": "model",
    "VAREmitterLoss": "loss",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
