"""Bytes on disk that know no weight: segments, checksums, archives, atomic writes."""
