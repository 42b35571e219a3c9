"""Threads for compiled work, which lets go of the interpreter's lock."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch


class Workers:
    """As many threads as torch has, for compiled work."""

    def __init__(self) -> None:
        self._others = ThreadPoolExecutor()

    def __call__(self, work: Callable[[int], None], count: int) -> None:
        """Do `work` number 0, 1, ... up to `count`, side by side."""
        numbers = iter(range(count))

        def go_on() -> None:
            for number in numbers:
                work(number)

        others = [self._others.submit(go_on) for _ in range(min(torch.get_num_threads(), count) - 1)]
        go_on()
        for other in others:
            other.result()
