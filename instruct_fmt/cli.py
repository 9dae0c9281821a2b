"""The command line: `prepare`, `preview`, `render`, `check`, `templates`.

In: a configuration file and changes to it. Out: text on standard output; where something does not fit, one
message on standard error and exit code 1 (data) or 2 (usage, configuration, template, tokenizer, files).

Heavy imports are inside the commands, so that `--help` is quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from instruct_fmt.common.told_errors import told
from instruct_fmt.errors import RowError, UsageError
from instruct_fmt.run.ending import ended_by_exception
from instruct_fmt.version import __version__

if TYPE_CHECKING:
    from instruct_fmt.run.config.schema import Config
    from instruct_fmt.run.work import Source

DEBUG = "INSTRUCT_FMT_DEBUG"
app = typer.Typer(
    help="Instruction data into token ids and proven labels.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
templates = typer.Typer(help="The named templates.", no_args_is_help=True)
app.add_typer(templates, name="templates")

ConfigFile = Annotated[str, typer.Argument(help="A YAML file, or `embedded` for the example in the package.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key, such as max_length=512.")
]
DatasetNumber = Annotated[int, typer.Option("--dataset", min=0, help="Which of the datasets, counted from 0.")]


@app.command()
def prepare(
    config: ConfigFile = "embedded",
    settings: Settings = None,
    num_proc: Annotated[int | None, typer.Option("--num-proc", min=1, help="Worker processes.")] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", help="The folder of the result.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Prepare again even if a result still holds.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Compare what is there with its checksums.")] = False,
) -> None:
    """Encode the datasets of a configuration into a folder with a manifest."""
    with _errors():
        changes = list(settings or ())
        changes += [] if num_proc is None else [f"num_proc={num_proc}"]
        found, base = _load(config, changes)
        if output is not None:
            found = found.model_copy(update={"output": found.output.model_copy(update={"path": output})})
        from instruct_fmt.run.configured import run_config

        prepared = run_config(found, base, progress=sys.stderr.isatty(), reuse=not force, verify=verify)
        _print(prepared.report.rich())


@app.command()
def preview(
    config: ConfigFile = "embedded",
    settings: Settings = None,
    rows: Annotated[int, typer.Option("--rows", min=1, help="How many rows, from the first.")] = 3,
    row: Annotated[int | None, typer.Option("--row", min=0, help="One row, by its number.")] = None,
    dataset: DatasetNumber = 0,
) -> None:
    """Show rows as coloured tokens: trained green, masked red."""
    with _errors():
        source = _one_source(config, settings, dataset)
        from rich.text import Text

        from instruct_fmt.look.preview import preview as preview_row

        numbers = range(min(rows, len(source.dataset))) if row is None else [row]
        fmt: Any = source.fmt
        _print(Text.assemble("legend: ", ("trained", "black on green"), " ", ("masked", "black on red")))
        shown = 0
        for number in numbers:
            try:
                found = _of_row(source, number, lambda values: preview_row(fmt, values))
            except RowError as error:
                if row is not None:
                    raise
                _complain(f"rejected: {error}")
                continue
            shown += 1
            _print(Text(f"row {number}", style="bold"))
            _print(found)
        if not shown:
            raise typer.Exit(1)


@app.command()
def render(
    config: ConfigFile = "embedded",
    settings: Settings = None,
    row: Annotated[int, typer.Option("--row", min=0, help="The row's number.")] = 0,
    prompt: Annotated[bool, typer.Option("--prompt", help="The prompt of the last trained turn only.")] = False,
    dataset: DatasetNumber = 0,
) -> None:
    """Print the text of a row as the template renders it."""
    with _errors():
        source = _one_source(config, settings, dataset)
        fmt: Any = source.fmt
        read: Callable[[Any], Any] = fmt.prompt if prompt else fmt.render
        typer.echo(_of_row(source, row, read).text)


@app.command()
def check(
    config: ConfigFile = "embedded",
    settings: Settings = None,
    rows: Annotated[int, typer.Option("--rows", min=1, help="How many rows of each dataset are examined.")] = 200,
) -> None:
    """Examine template, tokenizer and a sample of the data; exit code 1 where a run would go wrong."""
    with _errors():
        found, base = _load(config, settings)
        from instruct_fmt.doctor.command import check_sources
        from instruct_fmt.run.open import open_sources

        all_findings = check_sources(open_sources(found, base), rows)
        for findings in all_findings:
            _print(findings.rich())
        if not all(findings.ok for findings in all_findings):
            raise typer.Exit(1)


@templates.command("list")
def list_templates() -> None:
    """List the named templates."""
    with _errors():
        from rich.table import Table

        from instruct_fmt.template.source import load as sources

        table = Table(box=None, pad_edge=False)
        for title in ("name", "kind", "columns"):
            table.add_column(title, no_wrap=True)
        for name in sources.names():
            source = sources.show(name)
            table.add_row(name, source.kind, ", ".join(source.columns))
        _print(table)


@templates.command("show")
def show_template(name: Annotated[str, typer.Argument(help="The template's name.")]) -> None:
    """Print the text of a named template."""
    with _errors():
        from instruct_fmt.template.source import load as sources

        typer.echo(sources.show(name).text)


def main() -> None:
    """The console script."""
    _open_streams()
    # Without a framework transformers advises to install one, which this package does not need.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    try:
        with ended_by_exception():
            _run()
    except OSError as error:  # of writing the output itself
        _drop_output()
        if isinstance(error, BrokenPipeError):  # whoever read it has enough of it
            sys.exit(1)
        _complain(told(error)[1])
        sys.exit(2)


def _run() -> None:
    try:
        app()
    except SystemExit as ending:
        try:
            sys.stdout.flush()
        except OSError:
            if not ending.code:
                raise
            _drop_output()  # it was told already
        raise


def _drop_output() -> None:
    """Let nothing more be written, which would fail again when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _open_streams() -> None:
    """Open standard streams that whoever started this process has closed: files would get their numbers."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"instruct_fmt {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.", envvar=DEBUG)] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    if debug:
        os.environ[DEBUG] = "1"


@contextmanager
def _errors() -> Iterator[None]:
    """One message on standard error instead of a traceback, and the exit code of its kind."""
    try:
        yield
    except (typer.Exit, BrokenPipeError):
        raise
    except KeyboardInterrupt:
        _complain("interrupted")
        raise typer.Exit(130) from None
    except Exception as error:  # noqa: BLE001 - the outer layer: whatever nobody foresaw is one line too
        code, message = told(error)
        if os.environ.get(DEBUG, "") not in ("", "0"):
            import traceback

            _complain("".join(traceback.format_exception(error)).rstrip())
        _complain(message)
        raise typer.Exit(code) from None


def _load(name: str, settings: Sequence[str] | None) -> tuple[Config, Path]:
    from instruct_fmt.run.config.load import load

    config = load(name, settings or ())
    if config.left_to_trainer:
        _complain(f"left to the trainer: {', '.join(config.left_to_trainer)}")
    return config, Path(name).parent


def _one_source(name: str, settings: Sequence[str] | None, number: int) -> Source:
    """The dataset number `number` of a configuration; the others are not opened."""
    config, base = _load(name, settings)
    if number >= len(config.datasets):
        raise UsageError("--dataset", number, f"less than {len(config.datasets)}", "count from 0")
    from instruct_fmt.run.open import open_sources

    only = {"datasets": [config.datasets[number]], "validation_datasets": []}
    return open_sources(config.model_copy(update=only), base)[0]


def _of_row(source: Source, number: int, read: Callable[[dict[str, Any]], Any]) -> Any:
    """Apply `read` to a row, and give an error about it the row's number."""
    from instruct_fmt.adapt.columns.arrow import table_rows

    if number >= len(source.dataset):
        raise UsageError("--row", number, f"less than {len(source.dataset)}, the rows of {source.name}", "count from 0")
    values = table_rows(source.dataset.with_format("arrow")[number : number + 1])[0]
    try:
        return read(values)
    except RowError as error:
        error.row = number
        raise


def _print(what: Any) -> None:
    from rich.console import Console

    console = Console(soft_wrap=True, highlight=False)
    if console.color_system == "standard":
        # Shades of green and red become grey in 16 colours, and terminals with no more than these are gone.
        console = Console(soft_wrap=True, highlight=False, color_system="256", force_terminal=True)
    console.print(what)


def _complain(message: str) -> None:
    # Half a surrogate pair may come from the command line itself, and no terminal takes it; others, it obeys.
    text = message.encode("utf-8", "backslashreplace").decode()
    typer.echo("".join(char if char in "\n\t" or char.isprintable() else repr(char)[1:-1] for char in text), err=True)


if __name__ == "__main__":
    main()
