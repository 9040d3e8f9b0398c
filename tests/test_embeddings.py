"""Laws of embeddings: kept by all that changes them, true to CLAP's own code, and worse for what sounds worse."""

import http.server
import os
import subprocess
import sys
import threading
from functools import partial

import numpy as np
import pytest

from workbench.data import synthesis
from workbench.errors import UsageError
from workbench.evaluation import embeddings, evidence, metrics


@pytest.fixture(scope="module")
def x():
    """200 clips of a second at 22,050 Hz, of all machines and labels."""
    return np.stack([synthesis.make(key, rate=22_050)[0] for key in synthesis.keys()[::6]])


def test_points_are_kept_by_what_changes_them(x, tmp_path):
    first = embeddings.embed(x[:8], 22_050, folder=tmp_path)
    assert first.shape == (8, 112) and first.dtype == np.float32 and np.isfinite(first).all()
    (kept,) = tmp_path.glob("descriptors-*.npy")
    np.save(kept, first + 1)
    assert np.array_equal(embeddings.embed(x[:8], 22_050, folder=tmp_path), first + 1)
    for clips, rate in ((x[:8], 22_051), (x[1:9], 22_050), (x[:8] * 0.99, 22_050), (x[:7], 22_050)):
        assert not np.array_equal(embeddings.embed(clips, rate, folder=tmp_path)[:7], first[:7] + 1)
    assert len(list(tmp_path.iterdir())) == 5


def test_real_packs_lie_about_the_origin(x):
    points = embeddings.embed(x, 22_050)
    assert np.abs(points.mean(0)).mean() < 1 and 0.3 < points.std(0).mean() < 2


@pytest.mark.parametrize("damage", evidence.DAMAGES.values(), ids=evidence.DAMAGES)
def test_what_sounds_worse_lies_farther_away(x, damage):
    rng = np.random.default_rng(0)
    real = embeddings.embed(x[::2], 22_050)
    made = [x[1::2], *(damage(x[1::2], 22_050, grade, rng) for grade in (1, 2, 3))]
    points = [embeddings.embed(np.clip(m, -1, 1), 22_050) for m in made]
    for metric in (metrics.fad, metrics.kad):
        values = [metric(real, p) for p in points]
        assert values == sorted(values) and values[1] > values[0], (metric.__name__, values)


def test_what_cannot_be_embedded_says_why(x, tmp_path, monkeypatch):
    monkeypatch.delenv("WORKBENCH_CLAP", raising=False)
    with pytest.raises(UsageError, match="no embedding 'vggish'; known are descriptors, clap-music, clap-630k"):
        embeddings.embed(x, 22_050, "vggish")
    with pytest.raises(ValueError, match="1 of 3 clips hold values that are no numbers"):
        embeddings.embed(np.where(np.arange(3)[:, None] == 1, np.nan, x[:3]), 22_050)
    with pytest.raises(
        UsageError, match=r"needs music_audioset_.*no checkpoint was named.*WORKBENCH_CLAP.*descriptors"
    ):
        embeddings.embed(x, 22_050, "clap-music")
    (tmp_path / "other.pt").write_bytes(b"another file")
    monkeypatch.setenv("WORKBENCH_CLAP", str(tmp_path / "other.pt"))
    seal = embeddings.sha256(tmp_path / "other.pt")
    with pytest.raises(UsageError, match=f"has the SHA-256 {seal}, and that of music_audioset_.* is fae3e9c0"):
        embeddings.embed(x, 22_050, "clap-music")
    with pytest.raises(UsageError, match=f"is not known here.*{seal}: compare it"):
        embeddings.embed(x, 22_050, "clap-630k")
    assert embeddings.found("clap-630k", trusted=seal) == (tmp_path / "other.pt", seal)
    (tmp_path / "other.pt").write_bytes(b"changed since")
    for unchecked in (embeddings.found, partial(embeddings.clap, x, 22_050)):  # a pickle is loaded by no other way
        with pytest.raises(UsageError, match=f"and that of .* is {seal}"):
            unchecked("clap-630k", trusted=seal)


def test_a_checkpoint_is_fetched_on_request_and_checked(tmp_path, monkeypatch):
    shelf = tmp_path / "shelf" / "resolve" / "main"
    shelf.mkdir(parents=True)
    (shelf / "a.pt").write_bytes(b"weights")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "shelf"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        there = f"http://127.0.0.1:{server.server_port}"
        seal = embeddings.sha256(shelf / "a.pt")
        for name, file, hash_ in (("good", "a.pt", seal), ("other", "a.pt", "0" * 64), ("none", "b.pt", "")):
            monkeypatch.setitem(embeddings.CHECKPOINTS, name, embeddings.Checkpoint(file, "HTSAT-tiny", hash_, there))
        assert embeddings.fetch("good", tmp_path / "out").read_bytes() == b"weights"
        with pytest.raises(UsageError, match=r"could not be fetched.*invalid hash value"):
            embeddings.fetch("other", tmp_path / "new")
        assert not any((tmp_path / "new").iterdir())
        with pytest.raises(UsageError, match=r"b.pt could not be fetched .*404.*WORKBENCH_CLAP"):
            embeddings.fetch("none", tmp_path / "new")
        server.shutdown()
    with pytest.raises(UsageError, match="no checkpoint 'vggish'; known are clap-music"):
        embeddings.fetch("vggish", tmp_path)


# A tiny cache and a checkpoint in the official layout, random weights: the official loader is the oracle of ours.
CLAP = """
import json, os, sys
from pathlib import Path
import numpy as np, torch
from transformers import RobertaConfig, RobertaModel

home, seed = Path(os.environ["HF_HOME"]), 0
torch.manual_seed(seed)

def cached(name):
    folder = home / "hub" / f"models--{name}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (snapshot := folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    return snapshot

shape = dict(hidden_size=768, num_hidden_layers=1, num_attention_heads=12, intermediate_size=64)
roberta = cached("roberta-base")
RobertaModel(RobertaConfig(vocab_size=261, max_position_embeddings=514, type_vocab_size=1, **shape)).save_pretrained(roberta)
import laion_clap

official = laion_clap.CLAP_Module(enable_fusion=False, amodel="HTSAT-tiny", device="cpu")
state = {"module." + k: v for k, v in official.model.state_dict().items()}
state["module.text_branch.embeddings.position_ids"] = torch.arange(514)[None]
path = home / "fake.pt"
torch.save({"epoch": 15, "name": "fake", "best": np.float64(0.9), "state_dict": state}, path)
official.load_ckpt(str(path), verbose=False)
official.eval()

from workbench.data import audio
from workbench.evaluation import embeddings
from workbench.errors import UsageError

x = np.random.default_rng(0).uniform(-0.5, 0.5, (3, 30_000)).astype(np.float32)
ours = embeddings.embed(x, 44_100, "clap-630k", home / "kept", path, embeddings.sha256(path))
at48 = np.stack([audio.resample(v, 44_100, 48_000) for v in x])
with torch.inference_mode():
    theirs = official.get_audio_embedding_from_data(at48, use_tensor=False)
assert ours.shape == (3, 512) and np.allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
print("difference", np.abs(ours - theirs).max())
try:
    embeddings.embed(x, 44_100, "clap-music", None, path, embeddings.sha256(path))
except UsageError as error:
    print("refused:", error)
"""


def test_clap_is_that_of_its_authors_without_their_downloads(tmp_path):
    pytest.importorskip("laion_clap", reason="the extra clap is not installed")
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CLAP], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = dict(
        line.split(maxsplit=1) for line in done.stdout.splitlines() if line.startswith(("difference", "refused"))
    )
    assert float(said["difference"]) < 1e-6
    assert "is no HTSAT-base" in said["refused:"]
