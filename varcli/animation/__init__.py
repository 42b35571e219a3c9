"""Watching a generator work: record its events, keep the recording as frames.npz, draw it as an animation."""

from varcli.animation.draw import AnimationOptions
from varcli.animation.encode import (
    Animation,
    animate,
    check_output,
    draw_png_frames,
    refuse_existing_frames,
    write_animation,
)
from varcli.animation.frames import FramesMeta, Recording, load_frames, save_frames, select_frames
from varcli.animation.recorder import FrameRecorder

__all__ = [
    "Animation",
    "AnimationOptions",
    "FrameRecorder",
    "FramesMeta",
    "Recording",
    "animate",
    "check_output",
    "draw_png_frames",
    "load_frames",
    "refuse_existing_frames",
    "save_frames",
    "select_frames",
    "write_animation",
]
