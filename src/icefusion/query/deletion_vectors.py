"""Deletion vectors: bitmaps of deleted positions in Puffin files.

A blob is a length, four magic bytes, a roaring bitmap of 64 bits in its portable form and a checksum, which are read
here as the specification has them. The manifest says where in a file the blob of a data file lies, and then only that
part is read. PyIceberg reads whole files and does not look at the checksum.
"""

from __future__ import annotations

import zlib

from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile
from pyiceberg.table.puffin import PuffinFile
from pyroaring import BitMap

from icefusion.bridge.entries import content_range

__all__ = ["parse_blob", "read_vector"]

BLOB_TYPE = "deletion-vector-v1"
_MAGIC = bytes((0xD1, 0xD3, 0x39, 0x64))
_REFERENCED = "referenced-data-file"


def read_vector(file: DataFile, data_path: str, io: FileIO) -> BitMap:
    """The positions that a deletion vector deletes in a data file.

    Raises:
        ValueError: The file is not what its manifest says.
        Exception: Whatever the file access raises.
    """
    found = content_range(file)
    with io.new_input(file.file_path).open() as stream:
        if found is None:
            blob = _blob_about(PuffinFile(stream.read()), data_path)
        else:
            offset, size = found
            stream.seek(offset)
            blob = stream.read(size)
            if len(blob) != size:
                raise ValueError(f"it ends before byte {offset + size}")
    bitmap = parse_blob(blob)
    if len(bitmap) != file.record_count:
        raise ValueError(f"it deletes {len(bitmap)} rows of {data_path}, its manifest says {file.record_count}")
    return bitmap


def parse_blob(blob: bytes) -> BitMap:
    """The bitmap in a blob.

    Raises:
        ValueError: It is none.
    """
    length = int.from_bytes(blob[:4], "big")
    if length < len(_MAGIC) + 8 or length + 8 > len(blob) or blob[4:8] != _MAGIC:
        raise ValueError("it holds no deletion vector where there should be one")
    content = blob[4 : 4 + length]
    if zlib.crc32(content) != int.from_bytes(blob[4 + length : 8 + length], "big"):
        raise ValueError("the checksum of a deletion vector is wrong")
    bitmaps = content[4:]
    count, key = int.from_bytes(bitmaps[:8], "little"), int.from_bytes(bitmaps[8:12], "little")
    if count == 0:
        return BitMap()
    if count > 1 or key != 0:
        raise ValueError("it deletes rows beyond position 4294967295")
    bitmap: BitMap = BitMap.deserialize(bitmaps[12:])
    return bitmap


def _blob_about(puffin: PuffinFile, data_path: str) -> bytes:
    for blob in puffin.footer.blobs:
        if blob.type == BLOB_TYPE and blob.properties.get(_REFERENCED) == data_path:
            return puffin.get_blob_payload(blob)
    raise ValueError(f"it holds no deletion vector of {data_path}")
