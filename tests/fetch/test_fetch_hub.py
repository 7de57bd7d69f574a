"""Files and folders of the hubs: huggingface_hub against a server of this machine, kagglehub by a stand-in."""

import hashlib
import json
import sys
import types
from pathlib import Path

import pytest
from file_server import weights

from transferpipe.errors import FileError, VerificationError
from transferpipe.fetch.find import find
from transferpipe.fetch.hub import parse_hf
from transferpipe.fetch.open_path import open_path

COMMIT, NEXT = "a" * 40, "b" * 40
REPO = "org/some-model"


class Hub:
    """The routes of the Hub that huggingface_hub asks for."""

    def __init__(self, server):
        self.server, self.files, self.commit = server, {}, COMMIT

    def put(self, name, data, commit=COMMIT):
        self.files[name], self.commit = data, commit
        for revision in ("main", commit):
            self.server.answers[f"/api/models/{REPO}/revision/{revision}"] = self._info
            self.server.answers[f"/api/models/{REPO}/tree/{revision}?recursive=true&expand=false"] = self._tree
            self.server.answers[f"/api/models/{REPO}/tree/{revision}?recursive=True&expand=False"] = self._tree
            for path in self.files:
                self.server.answers[f"/{REPO}/resolve/{revision}/{path}"] = self._resolve
        return self

    def _info(self, handler):
        siblings = [{"rfilename": name} for name in self.files]
        data = {"_id": "1", "id": REPO, "modelId": REPO, "sha": self.commit, "siblings": siblings, "private": False}
        handler.answer(200, json.dumps(data).encode(), {"Content-Type": "application/json"})

    def _tree(self, handler):
        tree = [{"type": "file", "oid": _oid(d), "size": len(d), "path": n} for n, d in self.files.items()]
        handler.answer(200, json.dumps(tree).encode(), {"Content-Type": "application/json"})

    def _resolve(self, handler):
        data = self.files[handler.path.partition("/resolve/")[2].partition("/")[2]]
        handler.answer(200, data, {"ETag": f'"{_oid(data)}"', "X-Repo-Commit": self.commit})


def _oid(data):
    return hashlib.sha1(data).hexdigest()


@pytest.fixture
def hub(server, monkeypatch, tmp_path):
    """An empty repository on a hub of this machine."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "ENDPOINT", server.url(""))
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url("/{repo_id}/resolve/{revision}/{filename}")
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    return Hub(server)


def refused(text, error=FileError, pin=None):
    with pytest.raises(error) as caught:
        find(text, "source.path", pin)
    return str(caught.value)


def test_a_file_of_the_hub(hub, cache):
    data, digest = weights()
    hub.put("sub/model.safetensors", data)
    found = find(f"hf://{REPO}/sub/model.safetensors")
    assert found.path.read_bytes() == data
    assert (found.sha256, found.advice) == (digest, f"add sha256: {digest}")
    hub.put("sub/model.safetensors", weights(2.0)[0], NEXT)
    cache()
    assert find(f"hf://{REPO}/sub/model.safetensors").sha256 == weights(2.0)[1]


def test_a_pinned_file_of_the_hub_needs_no_network(hub, server, cache):
    data, digest = weights()
    hub.put("model.safetensors", data)
    url = f"hf://{REPO}/model.safetensors"
    assert find(url, pin=digest).advice == ""
    asked = len(server.asked)
    cache()
    server.answers.clear()
    assert find(url, pin=digest).path.read_bytes() == data
    assert len(server.asked) == asked


def test_a_file_of_the_hub_that_is_not_the_pinned_one(hub):
    hub.put("model.safetensors", weights()[0])
    assert weights()[1] in refused(f"hf://{REPO}/model.safetensors", VerificationError, "0" * 64)


def test_a_commit(hub):
    hub.put("model.safetensors", weights()[0])
    found = find(f"hf://{REPO}@{COMMIT}/model.safetensors")
    assert found.path.read_bytes() == weights()[0]


def test_what_the_hub_does_not_have(hub, server):
    hub.put("model.safetensors", weights()[0])
    assert f"hf://{REPO}/other.h5 cannot be fetched: " in refused(f"hf://{REPO}/other.h5")
    assert "names no repository" in refused("hf://model.safetensors")
    hub.put("folder/a.txt", b"x")
    assert "has no 'nothing'" in refused(f"hf://{REPO}/nothing")


def test_shards_by_their_index(hub):
    data, _ = weights()
    index = {
        "weight_map": {"dense.kernel": "m-00001-of-00001.safetensors", "dense.bias": "m-00001-of-00001.safetensors"}
    }
    hub.put("m-00001-of-00001.safetensors", data).put("m.safetensors.index.json", json.dumps(index).encode())
    hub.put("unwanted.bin", b"x" * 1000)
    source = open_path(f"hf://{REPO}/m.safetensors.index.json", "source.path")
    assert source.format == "safetensors_index"
    assert source.read("dense/kernel").tolist() == [[1.0, 1.0]] * 3
    assert {p.name for p in source.path.parent.iterdir()} == {
        "m-00001-of-00001.safetensors",
        "m.safetensors.index.json",
    }


def test_a_folder_is_pinned_by_its_commit(hub):
    hub.put("ckpt/model.safetensors", weights()[0]).put("other/a.txt", b"x")
    found = find(f"hf://{REPO}/ckpt")
    assert found.advice == f"name the commit: hf://{REPO}@{COMMIT}/ckpt"
    assert [p.name for p in found.path.iterdir()] == ["model.safetensors"]
    pinned = find(f"hf://{REPO}@{COMMIT}/ckpt")
    assert (pinned.advice, pinned.sha256) == ("", None)


@pytest.fixture
def kaggle(monkeypatch, tmp_path):
    """A stand-in for kagglehub with one file; returns what it was asked."""
    asked = []
    (tmp_path / "kaggle").mkdir()
    (tmp_path / "kaggle" / "model.safetensors").write_bytes(weights()[0])

    def model_download(handle, path=None):
        asked.append((handle, path))
        if "missing" in handle:
            raise type("KaggleApiHTTPError", (Exception,), {"response": types.SimpleNamespace(status_code=404)})("404")
        return str(tmp_path / "kaggle" / (path or ""))

    package = types.ModuleType("kagglehub")
    package.model_download = model_download
    monkeypatch.setitem(sys.modules, "kagglehub", package)
    return asked


def test_files_and_folders_of_kaggle(kaggle):
    file = find("kaggle://keras/bert/keras/base/2/model.safetensors")
    assert (file.path.name, file.sha256) == ("model.safetensors", weights()[1])
    folder = find("kaggle://keras/bert/keras/base/")
    assert Path(folder.path).is_dir()
    assert (folder.sha256, folder.advice) == (None, "name the version after the variation")
    assert find("kaggle://keras/bert/keras/base/2").advice == ""
    assert kaggle == [
        ("keras/bert/keras/base/2", "model.safetensors"),
        ("keras/bert/keras/base", None),
        ("keras/bert/keras/base/2", None),
    ]


def test_what_kaggle_does_not_have(kaggle):
    assert "cannot be fetched: KaggleApiHTTPError: 404 -> check the address" in refused("kaggle://missing/b/c/d/1/e.h5")
    assert "has no 'nothing'" in refused("kaggle://keras/bert/keras/base/2/nothing")


@pytest.mark.parametrize(
    ("inner", "is_file"),
    [("model.safetensors", True), ("v1.0", False), ("a/v1.5", False), ("a.b/weights", False), ("a/w.h5", True),
     ("model.safetensors.index.json", False)],
)  # fmt: skip
def test_what_is_one_file(inner, is_file):
    assert parse_hf(f"hf://somebody/models/{inner}", "source").is_file is is_file


@pytest.mark.follows("_describe_failure: check the address; if")
def test_a_gated_repository_is_fetched_once_logged_in(hub, server, monkeypatch, tmp_path):
    import huggingface_hub

    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "tokens"))
    data, token = weights()[0], "hf_" + "a" * 34
    hub.put("model.safetensors", data)

    def gated(answer):
        def judge(handler):
            if handler.headers.get("Authorization") == f"Bearer {token}":
                return answer(handler)
            return handler.answer(401, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})

        return judge

    server.answers |= {path: gated(answer) for path, answer in server.answers.items()}
    account = {"type": "user", "name": "me", "auth": {"accessToken": {"displayName": "mine", "role": "read"}}}
    reply = json.dumps(account).encode()
    server.answers["/api/whoami-v2"] = gated(lambda h: h.answer(200, reply, {"Content-Type": "application/json"}))
    with pytest.raises(FileError) as caught:
        find(f"hf://{REPO}/model.safetensors", "source")
    assert caught.value.problems[0].fix.endswith("log in with the hub's own tool")
    huggingface_hub.login(token=token, add_to_git_credential=False)
    assert find(f"hf://{REPO}/model.safetensors", "source").path.read_bytes() == data
