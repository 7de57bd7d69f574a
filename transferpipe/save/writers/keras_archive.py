"""Writes Keras 3 `.keras`: the members that Keras writes, uncompressed, with fixed times, values put in place."""

from __future__ import annotations

import json

from transferpipe.files.archives.stored_zip import StoredZip
from transferpipe.save.writers.content import Content
from transferpipe.save.writers.fill import fill, whole_crc
from transferpipe.save.writers.h5_layout import lay_out

_WEIGHTS = "model.weights.h5"
# Keras notes the time of saving; a fixed one keeps equal content equal in bytes.
_DATE_SAVED = "1980-01-01@00:00:00"


def write_keras(descriptor: int, content: Content) -> None:
    """Write the model. Memory holds one computed value, or one small buffer a thread."""
    assert content.config is not None
    # In Keras's order of members.
    metadata = {"keras_version": content.keras_version, "date_saved": _DATE_SAVED}
    archive = StoredZip(descriptor)
    archive.add("metadata.json", [json.dumps(metadata).encode()])
    archive.add("config.json", [content.config.encode()])
    # In the archive itself, not in a file beside it: values are then written once.
    places, size = lay_out(descriptor, archive.begin(_WEIGHTS), content)
    weights = archive.end(_WEIGHTS, size)
    fill(
        descriptor,
        places,
        content,
        # The header in front of the weights holds the CRC of all of them, layout included.
        seal=lambda written: archive.seal(weights, whole_crc(descriptor, weights.start, size, written)),
    )
    for name, chunks in content.assets():
        archive.add(name, chunks)
    archive.close()
