"""The CRC-32 of zip archives, at the speed of memory.

zlib's own takes as long as copying the bytes; ISA-L's, which computes the same, takes a tenth of that.
"""

from isal.isal_zlib import crc32

__all__ = ["crc32"]
