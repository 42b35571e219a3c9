"""The `var` command: registers the commands and catches their errors once."""

import contextlib
import io
import os
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from varcli.cli import evaluate, inspect, train
from varcli.cli.microscopy import post, simulate, super_resolve
from varcli.cli.music import gif, sample
from varcli.cli.output import reported_errors
from varcli.version import __version__


class _ErrorsReported(TyperGroup):
    """A group whose commands' errors become one or two lines and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        with reported_errors():
            return super().invoke(ctx)


app = typer.Typer(
    name="var",
    cls=_ErrorsReported,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 unreadable content or a failure, 2 a wrong option, path or config. "
    "VAR_DEBUG=1 shows tracebacks.",
)
app.command("sample", rich_help_panel="Music")(sample.sample)
app.command("gif", rich_help_panel="Music")(gif.gif)
app.command("super-resolve", rich_help_panel="Microscopy")(super_resolve.super_resolve)
app.command("post", rich_help_panel="Microscopy")(post.post)
app.add_typer(simulate.app, name="simulate", rich_help_panel="Microscopy")
app.command("train", rich_help_panel="Models")(train.train)
app.command("inspect", rich_help_panel="Models")(inspect.inspect)
app.add_typer(evaluate.app, name="evaluate", rich_help_panel="Models")


def _show_version(asked: bool) -> None:
    if asked:
        print(f"var {__version__}")
        raise typer.Exit


@app.callback()
def var(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Coarse-to-fine models of piano rolls and of emitters: sample, super-resolve, watch, score and train."""


def main() -> None:
    """Run the command line on this process's arguments."""
    if os.environ.get("_VAR_COMPLETE") == "source_zsh":
        _print_zsh_completion()
    else:
        app(prog_name="var")


def _print_zsh_completion() -> None:
    """Print Typer's zsh script, plus the call that makes it complete on the first TAB.

    When compinit autoloads the file, its body runs in place of the completion and only defines the real one; without
    the call, that first TAB would complete nothing.
    """
    with contextlib.redirect_stdout(io.StringIO()) as script, contextlib.suppress(SystemExit):
        app(prog_name="var")
    call = 'if [[ $zsh_eval_context[-1] == loadautofunc ]]; then\n  _var_completion "$@"\nfi'
    print(f"{script.getvalue().strip()}\n\n{call}")
