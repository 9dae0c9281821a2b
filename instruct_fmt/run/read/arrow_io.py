"""Reading Parquet and Arrow files that may be broken, or made to break their reader.

In: a path. Out: batches of one schema whose values are checked, so that no later step reads outside of them. What
`datasets` cannot hold is refused by the column's name; a file that unpacks to a great many times its size, too.
"""

from __future__ import annotations

import contextlib
import mmap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from instruct_fmt.errors import DataError, shown
from instruct_fmt.run.read.column_names import MOST_COLUMNS, named_once, too_many
from instruct_fmt.run.read.packed import bomb

_FREE_SIZE, _MOST_TIMES = 1 << 26, 200
_FREE_CELLS, _MOST_CELLS = 1 << 22, 20
_PACKED_TIMES = 20
_ROWS, _WRITTEN_ROWS = 100, 1000
_BATCH_BYTES = 1 << 26
# What ends a Parquet file begins one; a footer is hardly larger.
_TWO_FILES, _FOOTER = b"PAR1PAR1", 1 << 24
# The end of a stream: without it the file was cut, or its writer never closed it.
_END = b"\xff\xff\xff\xff\0\0\0\0"
# What `datasets` raises for metadata or types that it cannot read.
_UNREADABLE = (
    NotImplementedError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RecursionError,
    IndexError,
    pa.ArrowException,
)


def parquet_batches(path: Path) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The schema of a Parquet file and its rows.

    Raises (on opening and on reading):
        DataError: it is broken, holds what `datasets` cannot, or unpacks to too much.
        OSError: it cannot be opened.
    """
    with _parquet(path) as file:
        schema = file.schema_arrow
        check_schema(path, schema)
    return schema, _parquet_rows(path)


@contextlib.contextmanager
def _parquet(path: Path) -> Iterator[pq.ParquetFile]:
    # An open file, since Arrow takes no name that is not UTF-8.
    with path.open("rb") as raw, reading(path):
        yield pq.ParquetFile(raw, page_checksum_verification=True)


def _parquet_rows(path: Path) -> Iterator[pa.RecordBatch]:
    size = path.stat().st_size
    with _parquet(path) as file:
        _check_one_file(path)
        largest = _check_parquet_size(path, file.metadata, size)
        # Each row may hold the largest value of a column: a column that packs well may be one, repeated.
        rows = _ROWS if largest <= _PACKED_TIMES * size else max(1, min(_ROWS, _BATCH_BYTES // largest))
        yield from joined(_checked(path, file.iter_batches(batch_size=rows), size))


def joined(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Small batches put together, since each costs its reader time."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(one.num_rows for one in waiting) >= _WRITTEN_ROWS or sum(one.nbytes for one in waiting) > _BATCH_BYTES:
            yield pa.concat_batches(waiting)
            waiting = []
    if waiting:
        yield pa.concat_batches(waiting)


def _check_one_file(path: Path) -> None:
    """Refuse a file that begins with another one: the footer counts from the beginning of its own, so that rows of the
    first one would be read twice, and those of the second never."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at = content.find(_TWO_FILES)
        while at >= 0:
            second = at + len(_TWO_FILES) // 2
            if _is_parquet(content[max(0, second - _FOOTER) : second]):
                raise DataError(
                    path,
                    f"a second file behind the first, at byte {second:,}",
                    "one",
                    "name each file under `datasets`, or put them together with pyarrow.concat_tables",
                )
            at = content.find(_TWO_FILES, second)


def _is_parquet(end: bytes) -> bool:
    """Whether a file that ends so has a footer that can be read."""
    try:
        pq.read_metadata(pa.BufferReader(end))
    except (pa.ArrowException, OSError):
        return False
    return True


def _check_parquet_size(path: Path, metadata: Any, size: int) -> int:
    """Refuse a bomb by what its footer says; returns the size of the largest group of rows."""
    # Nothing of single columns: where their metadata is broken, asking for it ends the process.
    groups: list[int] = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
    most = max(_FREE_SIZE, _MOST_TIMES * size)
    cells = metadata.num_rows * max(1, metadata.num_columns)
    if sum(groups) > most or cells > max(_FREE_CELLS, _MOST_CELLS * size):
        raise bomb(path, most)
    return max([1, *groups])


def arrow_file(path: Path) -> tuple[pa.Schema, Iterator[pa.RecordBatch]] | None:
    """The rows of an Arrow file in the file format or packed; None for a plain stream, which is mapped as it is.

    Raises (on opening and on reading):
        DataError: it is broken, holds what `datasets` cannot, or unpacks to too much.
        OSError: it cannot be opened.
    """
    with reading(path):
        try:
            with _mapped(path) as source:
                packed = _check_stream(path, source)
        except pa.ArrowInvalid:
            # Not the stream format that `datasets` writes: the file format, also known as Feather.
            return _file_batches(path)
    return _stream_batches(path) if packed else None


def _mapped(path: Path) -> Any:
    try:
        return pa.memory_map(str(path))
    except UnicodeEncodeError:
        raise DataError(path, "a name that is not UTF-8", "one, for an Arrow file", "rename the file") from None


def _check_stream(path: Path, source: Any) -> bool:
    """Check all values of a stream; returns whether it is larger in memory than in the file."""
    size = path.stat().st_size
    reader = pa.ipc.open_stream(source)
    check_schema(path, reader.schema)
    unpacked = sum(batch.nbytes for batch in _checked(path, reader, size))
    behind = size - source.tell()
    if behind or source.read_at(len(_END), size - len(_END)) != _END:
        found = f"{behind:,} bytes behind the end" if behind else "no mark of the end"
        raise DataError(
            path, f"{found} of the data", "a whole Arrow stream", "close the writer, and write the file again"
        )
    return bool(unpacked > size)


def _stream_batches(path: Path) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    reader = pa.ipc.open_stream(_mapped(path))
    return reader.schema, _checked(path, reader, path.stat().st_size)


def _file_batches(path: Path) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    file = pa.ipc.open_file(_mapped(path))
    check_schema(path, file.schema)
    batches = (file.get_batch(i) for i in range(file.num_record_batches))
    return file.schema, _checked(path, batches, path.stat().st_size)


def _checked(path: Path, batches: Any, size: int) -> Iterator[pa.RecordBatch]:
    """Batches whose offsets and texts are right, as long as all of them are not too large."""
    most = max(_FREE_SIZE, _MOST_TIMES * size)
    total = 0
    with reading(path):
        for batch in batches:
            # First of all: with wrong offsets, even the size of a batch is read from elsewhere.
            batch.validate(full=True)
            total += batch.nbytes
            if total > most:
                raise bomb(path, most)
            yield batch


def check_schema(path: Path, schema: pa.Schema) -> None:
    """Refuse columns that `datasets` cannot hold, and metadata that it cannot read, by name.

    Raises:
        DataError: there are such.
    """
    named_once(str(path), schema.names)
    if sum(map(_fields, (field.type for field in schema))) > MOST_COLUMNS:
        raise too_many(str(path))
    for field in schema:
        _check_members(path, field.type, field.name)
    if (error := _fault(schema)) is None:
        return
    for field in schema:
        if _fault(pa.schema([pa.field(field.name, field.type)])):
            raise DataError(
                path,
                f"the column {field.name!r} of type {shown(str(field.type))}, which `datasets` cannot hold",
                "text, numbers, lists or structs",
                "convert the column, for example to JSON text",
            )
    raise DataError(
        path,
        f"metadata of `datasets` in its schema that cannot be read ({shown(str(error))})",
        "what `datasets` writes",
        "write the file without it, as `table.replace_schema_metadata(None)` does",
    )


def _fault(schema: pa.Schema) -> Exception | None:
    try:
        datasets.Dataset(schema.empty_table())
    except _UNREADABLE as error:
        return error
    return None


def _fields(kind: pa.DataType) -> int:
    return 1 + sum(_fields(kind.field(i).type) for i in range(kind.num_fields))


def _check_members(path: Path, kind: pa.DataType, name: str) -> None:
    members = [kind.field(i) for i in range(kind.num_fields)]
    counts = Counter(member.name for member in members)
    twice = next((found for found, count in counts.items() if count > 1), None)
    if twice is not None:
        raise DataError(
            path,
            f"the field {twice!r} twice in the column {name!r}",
            "a name of its own for each field",
            "rename one of them in the file",
        )
    for member in members:
        _check_members(path, member.type, f"{name}.{member.name}" if pa.types.is_struct(kind) else f"{name}[]")


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """What Arrow says of broken data as an error that names the file.

    Raises:
        DataError: the data is broken.
        OSError: the file cannot be read for a reason of the system.
    """
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        # Arrow raises plain `OSError` for corrupt data, without a number.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        kind = path.suffix.lower()
        raise DataError(
            path,
            f"data that cannot be read ({shown(str(error).strip(), 200)})",
            f"a whole {kind} file",
            "write the file again",
        ) from error
