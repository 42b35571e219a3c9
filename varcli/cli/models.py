"""What commands need to know of a checkpoint before they load it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from varcli.pianoroll.config import PianorollConfig
    from varcli.pianoroll.roll import Vocabulary


def config_of(checkpoint: str) -> "PianorollConfig":
    """The config in a checkpoint, read without torch, so that a wrong file is said at once.

    Raises UsageError when it is missing, VarError when it is damaged or for another task.
    """
    from varcli import registry
    from varcli.config import config_from_json

    path, header = registry.find_header(checkpoint)
    return config_from_json(header.config, str(path))


def vocabulary_of(config: "PianorollConfig") -> "Vocabulary":
    """What a cell of the model's canvas may hold."""
    from varcli.pianoroll.roll import Vocabulary

    return Vocabulary(config.model.velocity_bins, binary=config.model.vocabulary == "binary")
