"""Pictures stripped of their metadata, so that intact pixels are read although the metadata is broken."""

import struct
import zlib

PNG = b"\x89PNG\r\n\x1a\n"
PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
WEBP_PIXELS = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF")
WEBP_DESCRIBED = 0x2C
"""Bits of a VP8X chunk that announce a colour profile, EXIF and XMP."""


def without_metadata(content: bytes) -> bytes:
    """A PNG or WebP with the chunks of its pixels alone, as far as it goes; other formats as they are."""
    if content.startswith(PNG):
        return PNG + b"".join(_png_pixels(content))
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        chunks = b"".join(_webp_pixels(content))
        return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks
    return content


def _png_pixels(content: bytes) -> list[bytes]:
    """Chunks: length, name, content, checksum; big endian. Damage in those of pixels is left for the decoder to see."""
    chunks, place = [], len(PNG)
    while place + 12 <= len(content):
        size, name = struct.unpack_from(">I4s", content, place)
        if name in PNG_PIXELS:
            chunks.append(content[place : place + 12 + size])
        elif place + 12 + size > len(content):  # its length is broken: the next chunk of pixels says where it ends
            found = [at for each in (b"IDAT", b"IEND") if (at := content.find(each, place + 8)) > 0]
            place = min(found, default=len(content) + 4) - 4
            continue
        place += 12 + size
    if chunks and chunks[-1][4:8] != b"IEND":
        chunks.append(struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND")))
    return chunks


def _webp_pixels(content: bytes) -> list[bytes]:
    """Chunks: name, length, content, and a byte more where the length is odd; little endian."""
    chunks, place = [], 12
    while place + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, place)
        chunk = content[place : place + 8 + size + size % 2]
        if name == b"VP8X" and size:
            chunk = chunk[:8] + bytes([chunk[8] & ~WEBP_DESCRIBED]) + chunk[9:]
        if name in WEBP_PIXELS:
            chunks.append(chunk)
        place += 8 + size + size % 2
    return chunks
