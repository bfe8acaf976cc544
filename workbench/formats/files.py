"""A file as the bytes that it holds: unpacked on the way, with what became of a file that gives out or changes."""

from __future__ import annotations

import hashlib
import io
import stat
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Literal

import zstandard

from workbench.errors import BadInput

Packing = Literal["gzip", "zstd"]

_BUFFER = 1 << 18
# Packed bytes handed to the unpacker at once: 4 of them can unpack to 128 kB (zstd), so that a bomb stays below 130 MB.
_PACKED_CHUNK = 1 << 12
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_PACKED_SUFFIXES = (".gz", ".zst", ".zstd")


class InputFile:
    """A regular file that is read from the top, perhaps several times, and must stay what it is meanwhile.

    `position` is how many bytes of the file itself were read, for a progress bar. `problem` says why unpacked bytes
    gave out before their end; it is None as long as they did not. Raises BadInput where there is no such file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = 0
        self.problem: str | None = None
        self._stamp = self._look()
        with self.raw() as file:
            self.packing = _packing(file.read(4))

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self._stamp[0]

    @property
    def suffix(self) -> str:
        """The file name's ending in lower case, without that of the packing: `.csv` of `A.CSV.gz`."""
        name = Path(self.path.name.lower())
        return Path(name.stem).suffix if name.suffix in _PACKED_SUFFIXES else name.suffix

    def open(self) -> BinaryIO:
        """The bytes from the top. Raises BadInput, now or later, where the file cannot be read."""
        self.position = 0
        self.problem = None
        raw = _Unpacked(self, self.raw(), self.packing) if self.packing else _Plain(self, self.raw())
        return io.BufferedReader(raw, _BUFFER)

    def raw(self) -> io.FileIO:
        """The bytes as they lie on the disk. Raises BadInput where the file cannot be opened."""
        try:
            return io.FileIO(self.path)
        except OSError as error:
            raise _unreadable(self.path, error) from None

    def sha256(self) -> str:
        """SHA-256 (hex) of the bytes of the file as they lie there."""
        with self.raw() as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def changed(self) -> bool:
        """Whether something wrote to the file, or put another in its place, since this object was made.

        Also a changed mode or link count counts, which the file system does not tell apart from a write.
        """
        return self._look() != self._stamp

    def _look(self) -> tuple[int, int, int, int]:
        try:
            seen = self.path.stat()
        except FileNotFoundError:
            raise BadInput("there is no such file", where=str(self.path), do="Check the path.") from None
        except OSError as error:
            raise _unreadable(self.path, error) from None
        if not stat.S_ISREG(seen.st_mode):
            raise BadInput("this is not a file", where=str(self.path), do="Write what it gives into a file first.")
        return seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino


def _unreadable(path: Path, error: OSError) -> BadInput:
    do = "Check its permissions." if isinstance(error, PermissionError) else "Check the disk it lies on, or copy it."
    return BadInput(f"the file cannot be read: {error.strerror or error}", where=str(path), do=do)


def _packing(head: bytes) -> Packing | None:
    if head.startswith(_GZIP):
        return "gzip"
    # Frames to be skipped (0x184D2A50 to 5F) may come first: parallel packers write them.
    skipped = head[1:] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F
    return "zstd" if head == _ZSTD or skipped else None


class _Plain(io.RawIOBase):
    """The bytes of a file, counted."""

    def __init__(self, owner: InputFile, file: io.FileIO) -> None:
        self._owner = owner
        self._file = file

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        return self._fill(buffer)

    def _fill(self, buffer: Any) -> int:
        try:
            count = self._file.readinto(buffer) or 0
        except OSError as error:
            raise _unreadable(self._owner.path, error) from None
        self._owner.position += count
        return count


class _Unpacked(_Plain):
    """The bytes that a gzip or zstd file unpacks to, one member behind the other.

    Where they break off or are damaged, what came out before is given, and the owner's `problem` says why no more.
    """

    def __init__(self, owner: InputFile, file: io.FileIO, packing: Packing) -> None:
        super().__init__(owner, file)
        self._packing = packing
        self._engine = self._new_engine()
        self._packed = b""  # read, and behind the end of a member
        self._ready = memoryview(b"")  # unpacked and not yet given

    def readinto(self, buffer: Any) -> int:
        while not self._ready and self._owner.problem is None:
            packed = self._packed or self._read()
            if not packed:
                break
            self._ready = memoryview(self._unpack(packed))
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _new_engine(self) -> Any:
        if self._packing == "gzip":
            return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        return zstandard.ZstdDecompressor().decompressobj()

    def _read(self) -> bytes:
        """The next packed bytes; none at the end, which is a problem where a member has not ended."""
        chunk = bytearray(_PACKED_CHUNK)
        packed = bytes(chunk[: self._fill(chunk)])
        if not packed and not self._engine.eof:
            self._owner.problem = f"the {self._packing} data breaks off: the file was cut"
        return packed

    def _unpack(self, packed: bytes) -> bytes:
        """What `packed` unpacks to, as far as the member goes; what lies behind it is kept for the next call."""
        self._packed = b""
        if self._engine.eof:
            packed = packed.lstrip(b"\0")  # archives are padded with zeros
            while 0 < len(packed) < len(_ZSTD) and (more := self._read()):
                packed += more
            if not packed:
                return b""
            if _packing(packed[: len(_ZSTD)]) != self._packing:
                self._owner.problem = f"behind the end of the {self._packing} data lies something else"
                return b""
            self._engine = self._new_engine()
        before = self._engine.copy() if self._packing == "gzip" else None
        try:
            data: bytes = self._engine.decompress(packed)
        except (zlib.error, zstandard.ZstdError) as error:
            self._owner.problem = f"the {self._packing} data is damaged ({error})"
            return b"" if before is None else _until_damage(before, packed)
        if self._engine.eof:
            self._packed = self._engine.unused_data
        return data


def _until_damage(engine: Any, packed: bytes) -> bytes:
    """What comes out before the byte at which unpacking fails."""
    data = b""
    for i in range(len(packed)):
        try:
            data += engine.decompress(packed[i : i + 1])
        except zlib.error:
            break
    return data
