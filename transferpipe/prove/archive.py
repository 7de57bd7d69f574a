"""Proving what a finished Keras file says beside its weights: configuration, layer names, further members."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path

from transferpipe.errors import Problems, VerificationError
from transferpipe.files.archives.opening import open_zip
from transferpipe.files.crc import crc32
from transferpipe.files.publishing.atomic import final_name
from transferpipe.files.segment import CHUNK
from transferpipe.models.target import Target
from transferpipe.save.assets import assets_of
from transferpipe.save.optimizer_fate import FORMATS
from transferpipe.save.optimizer_state import prove_optimizer
from transferpipe.values.compute import Values
from transferpipe.weights.file_source import FileSource


def verify_archive(source: FileSource, target: Target, values: Values) -> None:
    """Prove that the finished file `source` says of the model what `target` does, frozen as the plan of `values` says.

    Raises:
        VerificationError: with everything that differs.
    """
    problems = Problems()
    name = final_name(source.path)
    noted = {group.path: group.name for group in source.groups}
    for group in target.groups if source.groups else ():
        if group.name is not None and noted.get(group.path, group.name) != group.name:
            what = f"the file calls the layer {noted[group.path]!r}, the target calls it {group.name!r}"
            problems.add(f"{name}: {group.path}", what)
    wanted = target.config(values.plan.freezing.layers) if source.format == "keras" else None
    if wanted is not None:
        # As data: two writers may order and space the same configuration differently.
        if source.config != json.loads(wanted):
            problems.add(f"{name}: config.json", "does not describe the target's model")
        _check_members(source.path, assets_of(target), problems)
    if source.format in FORMATS:
        prove_optimizer(source, values, target, problems)
    problems.raise_as(VerificationError)


def _check_members(path: Path, wanted: Iterable[tuple[str, Iterable[bytes]]], problems: Problems) -> None:
    with open_zip(path) as archive:
        left = {n for n in archive.namelist() if n not in ("config.json", "metadata.json", "model.weights.h5")}
        for member, chunks in wanted:
            if member not in left:
                problems.add(f"{final_name(path)}: {member}", "is missing from the file")
            elif _crc(chunks) != _crc(_read(archive, member)):
                problems.add(f"{final_name(path)}: {member}", "is not what the target has")
            left.discard(member)
    for member in sorted(left):
        problems.add(f"{final_name(path)}: {member}", "is in the file but not in the target")


def _read(archive: zipfile.ZipFile, member: str) -> Iterable[bytes]:
    with archive.open(member) as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _crc(chunks: Iterable[bytes]) -> int:
    crc = 0
    for chunk in chunks:
        crc = crc32(chunk, crc)
    return crc
