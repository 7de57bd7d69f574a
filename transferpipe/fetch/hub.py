"""Files and folders of the Hugging Face Hub and of Kaggle Models, in the caches of their own packages."""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from transferpipe.errors import FileError, Problem, UnsafeError
from transferpipe.fetch.address import import_package
from transferpipe.fetch.request import WantedFile

_COMMIT = re.compile(r"[0-9a-f]{40}")
_INDEX = ".index.json"
_SNAPSHOTS = "snapshots"
# owner/model/framework/variation, which are one model; what follows is a version or a file.
_KAGGLE_PARTS = 4


@dataclass(frozen=True)
class HubPath:
    """What an address of a hub names.

    Attributes:
        repo: the repository or the model's handle.
        revision: a branch, tag, commit or version; None for the newest.
        inner: the file or folder in it; empty for all of it.
    """

    repo: str
    revision: str | None
    inner: str

    @property
    def is_file(self) -> bool:
        """Tell one file from a folder, or several files: nothing but the name is known before it is fetched."""
        _, dot, suffix = self.inner.rpartition("/")[2].rpartition(".")
        return bool(dot) and not suffix.isdigit() and not self.inner.endswith(_INDEX)  # `v1.0` is a folder's name

    @property
    def is_commit(self) -> bool:
        """Tell whether the revision is a whole commit, behind which nothing can change."""
        return bool(self.revision and _COMMIT.fullmatch(self.revision))


def parse_hf(url: str, where: str) -> HubPath:
    """Return what ``hf://organisation/repository[@revision]/path`` names.

    Raises:
        FileError: it is written otherwise.
        UnsafeError: it leaves the repository.
    """
    parts = _parts(url, where)
    if len(parts) < 2:
        fix = "write hf://organisation/repository/file, or hf://organisation/repository@commit/file"
        raise FileError(Problem(where, f"{url!r} names no repository", fix))
    name, _, revision = parts[1].partition("@")
    return HubPath(f"{parts[0]}/{name}", revision or None, "/".join(parts[2:]))


def parse_kaggle(url: str, where: str) -> HubPath:
    """Return what ``kaggle://owner/model/framework/variation[/version][/path]`` names.

    Raises:
        FileError: it is written otherwise.
        UnsafeError: it leaves the model.
    """
    parts = _parts(url, where)
    if len(parts) < _KAGGLE_PARTS:
        fix = "write kaggle://owner/model/framework/variation/version/file"
        raise FileError(Problem(where, f"{url!r} names no variation of a model", fix))
    rest = parts[_KAGGLE_PARTS:]
    version = rest.pop(0) if rest and rest[0].isdigit() else None
    return HubPath("/".join(parts[:_KAGGLE_PARTS]), version, "/".join(rest))


def _parts(url: str, where: str) -> list[str]:
    parts = [part for part in url.partition("://")[2].split("/") if part]
    if ".." in PurePosixPath(*parts).parts or "\\" in url:
        raise UnsafeError(Problem(where, f"{url!r} leads out of what it names", "name a file inside of it"))
    return parts


def find_cached_hf(path: HubPath, where: str) -> Path | None:
    """Return the copy of a file that the cache has, without asking anybody."""
    found = import_package("hf", where).try_to_load_from_cache(path.repo, path.inner, revision=path.revision)
    # What is known not to exist is neither a text nor None.
    return Path(found) if isinstance(found, str) else None


def fetch_hf(path: HubPath, wanted: WantedFile) -> Path:
    """Return where the file or folder lies, fetched by huggingface_hub unless its cache has it.

    An index of shards brings the files whose names begin as its own does, which is how they are called:
    https://huggingface.co/docs/huggingface_hub/package_reference/serialization

    Raises:
        FileError: the package is not installed, there is no such file, or it cannot be fetched.
    """
    hub: Any = import_package("hf", wanted.where)
    try:
        if path.is_file:
            return Path(hub.hf_hub_download(path.repo, path.inner, revision=path.revision))
        return (
            Path(hub.snapshot_download(path.repo, revision=path.revision, allow_patterns=_patterns(path))) / path.inner
        )
    except Exception as error:  # of its own, of its client, of the operating system
        raise _describe_failure(error, wanted) from error


def _patterns(path: HubPath) -> list[str] | None:
    if not path.inner:
        return None
    if not path.inner.endswith(_INDEX):
        return [f"{glob.escape(path.inner)}/*"]
    stem = str(PurePosixPath(path.inner.removesuffix(_INDEX)).with_suffix(""))
    return [glob.escape(path.inner), f"{glob.escape(stem)}-*"]


def commit_of(path: Path) -> str | None:
    """Return the commit that a path in the cache of huggingface_hub belongs to."""
    parts = path.parts
    commits = [after for name, after in pairwise(parts) if name == _SNAPSHOTS]
    return commits[-1] if commits and _COMMIT.fullmatch(commits[-1]) else None


def fetch_kaggle(path: HubPath, wanted: WantedFile) -> Path:
    """Return where the file or folder lies, fetched by kagglehub unless its cache has it.

    Raises:
        FileError: the package is not installed, there is no such file, or it cannot be fetched.
    """
    hub: Any = import_package("kaggle", wanted.where)
    handle = f"{path.repo}/{path.revision}" if path.revision else path.repo
    try:
        if path.is_file:
            return Path(hub.model_download(handle, path=path.inner))
        return Path(hub.model_download(handle)) / path.inner
    except Exception as error:  # of its own, of its client, of the operating system
        raise _describe_failure(error, wanted) from error


def _describe_failure(error: Exception, wanted: WantedFile) -> FileError:
    text = next((line for line in str(error).splitlines() if line.strip()), "")
    status = getattr(getattr(error, "response", None), "status_code", None)
    what = f"{type(error).__name__}: {text}"
    if status in (401, 403):
        return wanted.failed(what, "check the address; if it is private or gated, log in with the hub's own tool")
    if status == 404 or "NotFound" in type(error).__name__:
        return wanted.failed(what, "check the address")
    return wanted.unreachable(what)
