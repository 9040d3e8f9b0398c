"""Stores: every file is taken or refused with a reason, splits never share a sound, an interruption loses nothing."""

import json
import multiprocessing
import os
import shutil
import stat
import tarfile
import zipfile

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import spoilt

from workbench import data, files
from workbench.data import audio, descriptors, labels, packs, splits, stores
from workbench.data.clips import LEAST, attributes
from workbench.errors import UsageError

RATE = 22_050
KINDS = {"bd": 60.0, "sd": 200.0, "hh": 6000.0, "Toms": 120.0}
LABELS = {"bd": "kick", "sd": "snare", "hh": "hat closed", "Toms": "tom"}


def hit(pitch, seed, seconds=0.2, rate=RATE):
    """A sound that resembles no other: a decaying tone, and noise in a band of its own."""
    rng = np.random.default_rng([int(pitch), seed])
    t = np.arange(round(seconds * rate)) / rate
    spectrum = np.fft.rfft(rng.standard_normal(len(t)))
    spectrum[: rng.integers(1, len(spectrum) // 2)] = 0
    noise = np.fft.irfft(spectrum, len(t))
    tone = np.sin(2 * np.pi * pitch * rng.uniform(0.6, 1.6) * t)
    x = np.exp(-t * rng.uniform(15, 80)) * (tone + rng.uniform(0.2, 3) * noise / np.abs(noise).max())
    return (0.8 * x / np.abs(x).max()).astype(np.float32)


def make(root, machines=6, takes=2, first=0):
    for machine in range(first, first + machines):
        for kind, pitch in KINDS.items():
            for take in range(takes):
                path = root / f"Machine {machine}" / kind / f"{kind}{take}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, hit(pitch, 100 * machine + take), RATE)
    return root


def build(source, store, **settings):
    return data.build(source, store, **{"seconds": 0.25, "rate": RATE, "progress": False, "workers": 1} | settings)


def no_pair_crosses(clips):
    """The law of the split: whatever sounds alike is in one set."""
    used = np.flatnonzero(clips.index.split != data.NEAR)
    cosine = clips.vectors(used) @ clips.vectors(used).T
    split = clips.index.split.to_numpy()[used]
    assert not ((cosine > 0.991) & (split[:, None] != split)).any()


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return make(tmp_path_factory.mktemp("source") / "pack")


@pytest.fixture(scope="module")
def clips(pack, tmp_path_factory):
    return build(pack, tmp_path_factory.mktemp("store"))


def test_a_store_holds_what_the_pack_held(pack, clips):
    assert len(clips) == 6 * 4 * 2 == clips.manifest["clips"] and clips.rejects.empty
    assert clips.length == 8192 and clips.rate == RATE
    assert set(clips.index.label) == set(LABELS.values()) == set(clips.labels)
    assert set(clips.index.pack) == {f"Machine {i}" for i in range(6)}
    assert sorted(clips.index.path) == sorted(p.relative_to(pack).as_posix() for p in pack.rglob("*.wav"))
    x = clips.audio()
    assert x.shape == (48, 8192) and x.dtype == np.float32
    assert np.allclose(np.abs(x).max(1), 1)
    assert np.array_equal(x, np.round(x * 32767) / np.float32(32767))
    for i in (0, 17, 47):
        first, _ = audio.read(pack / clips.index.path[i])
        assert np.allclose(x[i, :3000] * clips.index.gain[i], audio.centre(first[:, 0])[:3000], atol=1e-3)
        told = descriptors.describe(clips.audio([i])[0], RATE)  # measured as stored, rounding included
        assert dict(clips.index.loc[i, list(descriptors.NAMES)]) == pytest.approx(told, rel=1e-5)


def test_rows_are_positions_in_the_selection(clips):
    x, c = clips.audio(), clips.context()
    chosen = np.random.default_rng(0).permutation(len(clips))[:9]
    for rows in (chosen, list(chosen), slice(3, 11, 2), chosen[:0]):
        assert np.array_equal(clips.audio(rows), x[rows]) and np.array_equal(clips.context(rows), c[rows])
    assert np.array_equal(c.sum(1), np.ones(len(clips)))
    assert [clips.labels[i] for i in c.argmax(1)] == list(clips.index.label)
    for name in data.SPLITS:
        part = clips.split(name)
        assert np.array_equal(part.audio(), x[(clips.index.split == name).to_numpy()])
        assert part.labels == clips.labels and part.fingerprint == clips.fingerprint
    kicks = data.Clips(clips.store, labels=("kick",))
    assert set(kicks.index.label) == {"kick"} and kicks.split("train").labels == ("kick",)


def test_packs_stay_whole_and_every_set_is_filled(clips):
    assert clips.manifest["settings"]["split_by"] == "cluster"  # each of six machines holds over 15 %
    no_pair_crosses(clips)
    assert set(clips.index.split) >= set(data.SPLITS)


@pytest.mark.parametrize("n", [12, 20, 42])
def test_a_small_folder_of_different_sounds_can_be_trained(n):
    for seed in range(50):
        label = np.random.default_rng(seed).choice(["kick", "snare", "chime"], n, p=[0.4, 0.36, 0.24])
        nobody, none = np.zeros((0, 2), int), np.full(n, None)
        split = list(splits.assign(label, np.full(n, "pack"), nobody, none, None, seed)[2])
        assert all(split.count(name) >= least for name, least in LEAST.items()), (seed, split)


@pytest.mark.parametrize("seed", range(8))
def test_laws_of_the_split(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(100, 2000))
    number = rng.integers(3, 40)
    pack = np.minimum(rng.geometric(0.15, n), number).astype(str).astype(object)
    label = rng.choice(["a", "b", "c", "rare"], n, p=[0.5, 0.3, 0.18, 0.02]).astype(object)
    pairs = np.sort(rng.integers(0, n, (n // 20, 2)), 1)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    new = np.full(n, None, object)
    group, near, split, by = splits.assign(label, pack, pairs, new, None, seed)
    assert np.array_equal(split, splits.assign(label, pack, pairs, new, None, seed)[2]), "not repeatable"
    a, b = split[pairs.T]
    assert ((a == b) | (a == data.NEAR) | (b == data.NEAR)).all(), "a pair is heard in two sets"
    assert (group[pairs[:, 0]] == group[pairs[:, 1]]).all()
    assert set(np.flatnonzero(near)) == set(pairs[pack[pairs[:, 0]] != pack[pairs[:, 1]]].ravel())
    whole = pack if by == "pack" else group
    for one in set(whole):
        sets = set(split[whole == one]) - {data.NEAR}
        assert len(sets) <= 1, f"{by} {one} is in {sets}"
        if (whole == one).mean() > splits.LARGE:
            assert sets <= {"train"}, f"{by} {one} holds {(whole == one).mean():.0%}"
    share = {name: (split == name).mean() for name in data.SPLITS}
    assert share["train"] >= 0.6 and 0 < share["valid"] <= 0.2 and 0 < share["test"] <= 0.2, share
    # growing: what has a split keeps it
    kept = n * 3 // 4
    inside = pairs[(pairs < kept).all(1)]
    early = splits.assign(label[:kept], pack[:kept], inside, new[:kept], None, seed)
    late = splits.assign(label, pack, pairs, np.append(early[2], new[kept:]), early[3], seed)
    assert np.array_equal(late[2][:kept], early[2])
    fresh = pairs[(pairs >= kept).any(1)]
    a, b = late[2][fresh.T]
    assert ((a == b) | (a == data.NEAR) | (b == data.NEAR)).all(), "a new clip is heard in two sets"


@pytest.mark.parametrize("cosine", [0.8, 0.95, 0.99])
def test_all_pairs_are_found_and_no_other(cosine):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((300, 64)) + rng.standard_normal((30, 64)).repeat(10, 0) * rng.uniform(1, 20, (300, 1))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    rows = rng.permutation(300)[:250]
    every = np.argwhere(np.triu(x[rows] @ x[rows].T >= cosine, 1))
    assert 20 < len(every) < 2000
    assert np.array_equal(splits.alike(lambda asked: x[asked], rows, cosine), every)


def test_labels_of_names_that_packs_have():
    for path, expected in {
        "TR808/bd/01.wav": ("kick", "TR808"),
        "TR808/BD 0050.wav": ("kick", "TR808"),
        "Kicks/boom.wav": ("kick", ""),
        "My Pack Vol. 2/03 - Closed Hats/x.wav": ("hat closed", "My Pack Vol. 2"),
        "My Pack/ClosedHat_04.wav": ("hat closed", "My Pack"),
        "My Pack/hat_08_open.wav": ("hat open", "My Pack"),
        "My Pack/oh/1.wav": ("hat open", "My Pack"),
        "CR78/CR78 SD 03.wav": ("snare", "CR78"),
        "a/cp/b.wav": ("clap", "a"),
        "a/Hats/Open Hat 01.wav": ("hat open", "a"),
        "a/Hats/SD 01.wav": ("hat closed", "a"),
        "a/Cymbals/Ride 2.wav": ("ride", "a"),
        "a/lt/b.wav": ("tom", "a"),
        "a/Rimshots/b.wav": ("rim", "a"),
        "a/Räume/b.wav": ("räume", "a"),
        "a/b.wav": ("other", "a"),
        "x.wav": ("other", ""),
        "drum_bass_hard.flac": ("kick", ""),
    }.items():
        assert labels.named(path)[:2] == expected, path
    for label, names in labels.CONVENTIONS.items():
        for name in names.split():
            assert labels.named(f"machine/{name}/1.wav").label == label, name
            assert labels.LABELS[name] == label, f"{name} is in two rows"


def test_good_odd_and_bad_files(tmp_path):
    """Good files are taken, bad ones refused with their own reason, and nothing is silent."""
    folder = make(tmp_path / "hostile", machines=3)
    wav = lambda name, x, rate=RATE, **kind: soundfile.write(folder / name, x, rate, **kind)  # noqa: E731
    good = {name: hit(500 + 90 * i, i) for i, name in enumerate("abcdefghijkl")}
    wav("good_24.wav", np.repeat(good["a"][:, None], 2, 1), subtype="PCM_24")
    wav("good_float_hot.wav", 4 * good["b"], subtype="FLOAT")
    wav("good_u8.wav", hit(300, 1, rate=8_000), 8_000, subtype="PCM_U8")
    wav("good_192k.wav", hit(300, 2, rate=192_000), 192_000)
    wav("good_six.wav", np.repeat(good["c"][:, None], 6, 1))
    wav("good_flac.flac", good["d"])
    wav("good_ogg.ogg", good["e"])
    wav("good_aiff.AIFF", good["f"], format="AIFF")
    wav("good_mp3.mp3", good["g"])
    wav("good_Ünï çødé 🥁 (1) #2.wav", good["h"])
    wav("good_tail.wav", np.append(good["i"], np.zeros(30 * RATE)))
    wav("good_late.wav", np.append(np.zeros(2 * RATE), good["j"]))
    wav("good_quiet.wav", 1e-3 * good["k"], subtype="PCM_24")
    wav("good_dc.wav", 0.3 + 0.5 * good["l"])
    wav("good_antiphase.wav", np.stack([good["a"], -good["a"]], 1) * np.linspace(1, 0.2, len(good["a"]))[:, None])
    wav("odd_twin.wav", hit(60, 0))  # of Machine 0/bd/bd0.wav, which comes first
    wav("odd_one.wav", np.array([0.5]))
    wav("odd_silent.wav", np.zeros(RATE))
    wav("odd_recording.wav", np.concatenate([hit(100 * k, k, 1.0) for k in range(1, 71)]))
    wav("bad_none.wav", np.zeros(0))
    wav("bad_nan.wav", np.where(np.arange(4410) == 9, np.nan, good["a"]), subtype="FLOAT")
    wav("bad_inf.wav", np.where(np.arange(4410) == 8, np.inf, good["a"]), subtype="FLOAT")
    whole = (folder / "good_dc.wav").read_bytes()
    (folder / "bad_half.wav").write_bytes(whole[: len(whole) // 2])
    (folder / "bad_head.wav").write_bytes(whole[:20])
    (folder / "bad_empty.wav").write_bytes(b"")
    (folder / "bad_text.wav").write_text("this is no audio\n" * 50)
    (folder / "bad_html.flac").write_text("<!doctype html><title>404</title>")
    (folder / "bad_link.wav").symlink_to("nowhere.wav")
    (folder / "bad_folder.wav").mkdir()
    (folder / "bad_aac.m4a").write_bytes(b"\0\0\0 ftypM4A ")
    os.mkfifo(folder / "bad_pipe.wav")  # reading it would wait for ever
    (folder / "odd_loop").symlink_to(".")
    (folder / "._good.wav").write_bytes(b"\0\5\26\7")
    (folder / ".DS_Store").write_bytes(b"\0" * 64)
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "x.wav").write_bytes(b"")
    (folder / "notes.txt").write_text("")
    if os.geteuid():  # root reads all
        wav("bad_locked.wav", good["a"])
        (folder / "bad_locked.wav").chmod(0)
    clips = build(folder, tmp_path / "store")
    taken, refused = set(clips.index.path), dict(zip(clips.rejects.path, clips.rejects.reason, strict=True))
    for name in sorted(path.name for path in folder.iterdir() if not path.name.startswith((".", "_"))):
        if name.startswith("good"):
            assert name in taken and name not in refused, name
        if name.startswith("bad"):
            assert name not in taken and len(refused[name]) > 20, name
        if name.startswith("odd"):
            assert name in taken or refused[name], name
    reasons = [reason for path, reason in refused.items() if path.startswith("bad_")]
    assert len(set(reasons)) == len(reasons) - 1, reasons  # the text and the m4a are both "not recognised"
    assert refused["odd_twin.wav"] == "the same sound as Machine 0/bd/bd0.wav"
    assert len(clips) == 3 * 8 + 15 + 70, "each hit of a recording is a clip"
    assert clips.manifest["ignored"] == {"hidden": 3, ".txt": 1}
    index = clips.index.set_index("path")
    assert index.gain["good_float_hot.wav"] > 2 and index.gain["good_quiet.wav"] < 1.1e-3
    assert index.start["good_late.wav"] == pytest.approx(2, abs=0.003)
    assert np.allclose(np.abs(clips.audio()).max(1), 1)
    starts = np.sort(clips.index.start[clips.index.path == "odd_recording.wav"])
    assert np.abs(starts - np.arange(70)).max() < 0.01
    no_pair_crosses(clips)


def test_a_recording_as_the_source(tmp_path):
    x = np.concatenate([hit(80 * k, k, 0.5) for k in range(1, 181)])  # 90 s: two sections
    soundfile.write(tmp_path / "walk.flac", x, RATE)
    clips = build(tmp_path / "walk.flac", tmp_path / "store")
    assert len(clips) == 180 and set(clips.index.path) == {"walk.flac"} and clips.index.name.is_unique
    assert np.abs(np.sort(clips.index.start) - 0.5 * np.arange(180)).max() < 0.01
    again = build(tmp_path / "walk.flac", tmp_path / "store")
    assert again.fingerprint == clips.fingerprint and again.index.equals(clips.index)


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_archives_are_packs_and_stay_in_their_folder(tmp_path, pack, clips, kind):
    archive = tmp_path / f"pack.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as file:
            for path in sorted(pack.rglob("*.wav")):
                file.write(path, path.relative_to(pack))
            file.writestr("../escape.wav", "x")
            file.writestr("/absolute.wav", "x")
            link = zipfile.ZipInfo("link.wav")
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            file.writestr(link, "/etc/passwd")
            file.writestr("__MACOSX/._bd0.wav", "x")
            file.writestr("readme.txt", "x")
    else:
        with tarfile.open(archive, "w:gz" if kind.endswith("gz") else "w") as file:
            file.add(pack, ".")
            for name, target in {"../escape.wav": None, "/absolute.wav": None, "link.wav": "/etc/passwd"}.items():
                member = tarfile.TarInfo(name)
                member.type, member.linkname = (tarfile.SYMTYPE, target) if target else (tarfile.REGTYPE, "")
                file.addfile(member)
    store = tmp_path / "store"
    made = build(archive, store)
    assert made.fingerprint == clips.fingerprint and list(made.index.split) == list(clips.index.split)
    assert set(made.rejects.path) == {"../escape.wav", "/absolute.wav", "link.wav"}
    assert not list(store.glob("unpacked-*")) and not (tmp_path / "escape.wav").exists()
    assert len(build(archive, store)) == len(made)


def test_a_broken_archive_gives_what_it_holds(tmp_path, pack):
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        file.add(pack, "pack")
    whole = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[: len(whole) * 3 // 4])
    made = build(tmp_path / "a.tar", tmp_path / "store")
    assert 20 <= len(made) < 48 and any("breaks off" in reason for reason in made.rejects.reason)


def test_tables_beside_the_files(tmp_path):
    folder = make(tmp_path / "pack")
    (folder / "attributes.csv").write_text(
        "path,label,Tags\nMachine 0/bd/bd0.wav,thump,dark\nMachine 1/sd/sd1.wav,,bright\nno/such.wav,x,y\n"
    )
    (folder / "corrections.csv").write_text(
        "path,action,label\nMachine 0/hh/hh0.wav,exclude,\nMachine 0/hh/hh1.wav,relabel,shaker\n"
        "Machine 2/bd/bd0.wav,delete,\nMachine 3/bd/bd0.wav,relabel,\n"
    )
    (folder / "Machine 5" / "corrections.csv").write_text("path,action\nbd/bd0.wav,exclude\n")
    (folder / "Machine 4" / "attributes.csv").write_text("file;label\n")
    clips = build(folder, tmp_path / "store")
    spec = ("thump", "tags: dark", "tags: bright", "octave: 9")
    said = dict(zip(clips.index.path, clips.context(spec=spec).tolist(), strict=True))
    assert said["Machine 0/bd/bd0.wav"][:3] == [1, 1, 0] and said["Machine 1/sd/sd1.wav"][:3] == [0, 0, 1]
    assert clips.context([0, 2]).shape == (2, len(clips.labels)) and clips.context([0, 2], spec).shape == (2, 4)
    index = clips.index.set_index("path")
    assert index.label["Machine 0/bd/bd0.wav"] == "thump" and index.attribute_tags["Machine 0/bd/bd0.wav"] == "dark"
    assert index.label["Machine 1/sd/sd1.wav"] == "snare" and index.attribute_tags["Machine 1/sd/sd1.wav"] == "bright"
    assert index.label["Machine 0/hh/hh1.wav"] == "shaker"
    assert {"Machine 0/hh/hh0.wav", "Machine 5/bd/bd0.wav"}.isdisjoint(index.index) and len(clips) == 46
    refused = dict(zip(clips.rejects.path, clips.rejects.reason, strict=True))
    assert set(refused) == {
        "Machine 0/hh/hh0.wav",
        "Machine 5/bd/bd0.wav",
        "Machine 4/attributes.csv",
        "attributes.csv line 4",
        "corrections.csv line 4",
        "corrections.csv line 5",
    }
    assert "needs path" in refused["Machine 4/attributes.csv"] and "no/such.wav" in refused["attributes.csv line 4"]
    # the tables are read again by each build
    (folder / "corrections.csv").write_text("path,action,label\nMachine 1/bd/bd0.wav,exclude,\n")
    again = build(folder, tmp_path / "store").index.set_index("path")
    assert "Machine 1/bd/bd0.wav" not in again.index and "Machine 0/hh/hh0.wav" in again.index
    assert again.label["Machine 0/hh/hh1.wav"] == "hat closed"
    kept = index.index.intersection(again.index)
    assert (again.split[kept] == index.split[kept]).all()


def test_a_fault_of_ours_costs_one_file_and_is_told(tmp_path, pack, clips, monkeypatch):
    from workbench.data import intake

    take = intake._take_one

    def faulty(task, *how):
        if task.path.endswith("hh0.wav"):
            raise RuntimeError("nobody foresaw this")
        return take(task, *how)

    monkeypatch.setattr(intake, "_take_one", faulty)
    built = data.build(pack, tmp_path / "store", workers=1, progress=False)
    told = built.rejects.reason.str.contains("a fault of the workbench: RuntimeError: nobody foresaw this")
    assert told.sum() > 0 and len(built) + told.sum() >= len(clips)


def test_a_label_in_a_table_is_written_as_the_conventions_have_it():
    words = ("BD", "Kick", "hh", "Hi-Hat", "Kick 2", "Wobble")
    assert [labels.known(w) for w in words] == ["kick", "kick", "hat closed", "hat closed", "Kick 2", "Wobble"]


def test_some_labels_only(tmp_path, pack):
    clips = build(pack, tmp_path / "store", labels=["kick", "snare"])
    assert clips.labels == ("kick", "snare") and len(clips) == len(clips.rejects) == 24
    assert all("hat closed" in reason or "tom" in reason for reason in clips.rejects.reason)
    assert len(build(pack, tmp_path / "store")) == 48


def test_a_store_grows_and_keeps_its_splits(tmp_path):
    folder = make(tmp_path / "pack", machines=8)
    first = build(folder, tmp_path / "store")
    before = first.index.set_index("path")
    make(folder, machines=3, first=8)
    soundfile.write(folder / "Machine 0" / "bd" / "more.wav", hit(70, 999), RATE)
    soundfile.write(folder / "Machine 9" / "bd" / "twin.wav", hit(60, 0), RATE)
    (folder / "Machine 9" / "bd" / "broken.wav").write_text("nothing")
    soundfile.write(folder / "Machine 1" / "bd" / "bd0.wav", hit(66, 12345), RATE)  # another sound under an old name
    os.utime(folder / "Machine 2" / "bd" / "bd0.wav", (1, 1))  # the same sound with another date
    for _ in range(2):  # and once more, with nothing new
        grown = build(folder, tmp_path / "store")
        after = grown.index.set_index("path")
        assert len(grown) == 64 + 24 + 1 and list(after.index[:64]) == list(before.index)
        assert (after.split[before.index] == before.split).all() and (
            after["clip"][before.index] == before["clip"]
        ).all()
        assert np.array_equal(grown.audio(slice(64)), first.audio(slice(64)))
        refused = dict(zip(grown.rejects.path, grown.rejects.reason, strict=True))
        assert set(refused) == {f"Machine 9/bd/{name}.wav" for name in ("twin", "broken")} | {"Machine 1/bd/bd0.wav"}
        assert "has changed" in refused["Machine 1/bd/bd0.wav"] and "the same sound" in refused["Machine 9/bd/twin.wav"]
        no_pair_crosses(grown)
    soundfile.write(folder / "Machine 9" / "bd" / "broken.wav", hit(61, 777), RATE)  # mended
    assert len(build(folder, tmp_path / "store")) == 90


class Killed(BaseException):
    """What no handler of the workbench catches."""


@pytest.mark.parametrize("small", [4096, 7])  # the shards of a store, and ones that a pack fills
def test_an_interrupted_build_goes_on(tmp_path, pack, clips, monkeypatch, small):
    x, vectors = clips.audio(), clips.vectors()
    monkeypatch.setattr(stores, "SHARD", small)
    add, left = stores.Journal.add, [20]

    def dies(self, *given):
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        add(self, *given)

    store = tmp_path / "store"
    monkeypatch.setattr(stores.Journal, "add", dies)
    with pytest.raises(Killed):
        build(pack, store)
    with pytest.raises(data.DataError, match=r"no store"):
        data.Clips(store)
    with open(store / "journal.jsonl", "a") as file:
        file.write('{"key": "torn')
    with open(store / "clips-00000.npy.part", "ab") as file:
        file.write(b"torn")
    left[0] = 28  # exactly what is left: nothing is taken twice
    made = build(pack, store)
    assert left[0] == 0 and made.fingerprint == clips.fingerprint
    assert np.array_equal(made.audio(), x) and np.array_equal(made.vectors(), vectors)
    assert list(made.index.split) == list(clips.index.split)
    assert {path.suffix for path in store.iterdir()} <= {".npy", ".parquet", ".json", ""}, "temporary files were left"


@pytest.mark.parametrize("where", ["clips", "vectors", "index.parquet", "manifest.json"])
def test_a_full_disk_leaves_the_store_as_it_was(tmp_path, monkeypatch, where):
    folder = make(tmp_path / "pack")
    store = tmp_path / "store"
    first = build(folder, store)
    make(folder, machines=2, first=6)
    append = stores._Shards.append

    def full(self, row):
        if self.stem == where and self.rows > 52:
            raise OSError(28, "No space left on device")
        append(self, row)

    def fuller(path):
        if path.name == where:
            raise OSError(28, "No space left on device")
        return files.whole(path)

    with monkeypatch.context() as patch:
        patch.setattr(stores._Shards, "append", full)
        patch.setattr("workbench.data.builder.whole", fuller)
        with pytest.raises(data.DataError, match=r"disk of .* is full"):
            build(folder, store)
    old = data.Clips(store)
    assert old.fingerprint == first.fingerprint and np.array_equal(old.audio()[:48], first.audio())
    grown = build(folder, store)
    assert len(grown) == 64 and np.array_equal(grown.audio(slice(48)), first.audio())
    assert grown.fingerprint == build(folder, tmp_path / "fresh").fingerprint


def _holds(store, ready, done):
    with stores.held(store):
        ready.set()
        done.wait(30)


def test_a_store_that_is_being_built_is_refused(tmp_path, pack):
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=_holds, args=(tmp_path, ready, done))
    process.start()
    assert ready.wait(60)
    try:
        with pytest.raises(data.DataError, match=rf"being built by process {process.pid}"):
            build(pack, tmp_path)
    finally:
        done.set()
        process.join(30)
    assert len(build(pack, tmp_path)) == 48


def test_the_number_of_processes_changes_nothing(tmp_path):
    folder = make(tmp_path / "pack", machines=10)
    one, two = build(folder, tmp_path / "one", workers=1), build(folder, tmp_path / "two", workers=2)
    assert one.index.equals(two.index) and np.array_equal(one.audio(), two.audio())
    assert one.manifest == two.manifest
    assert one.manifest["settings"]["split_by"] == "pack"
    for machine in set(one.index.pack):
        assert len(set(one.index.split[one.index.pack == machine]) - {data.NEAR}) == 1


def test_folds_hold_out_every_pack_once(tmp_path):
    folder = make(tmp_path / "pack", machines=10)
    folds = [build(folder, tmp_path / f"{i}", fold=i, folds=5) for i in range(5)]
    tests = [set(clips.index.pack[clips.index.split == "test"]) for clips in folds]
    assert sorted(pack for packs in tests for pack in packs) == sorted(set(folds[0].index.pack))
    for i, clips in enumerate(folds):
        assert set(clips.index.pack[clips.index.split == "valid"]) == tests[(i + 1) % 5]
        assert clips.labels == folds[0].labels and f"fold {i} of 0 to 4" in clips.card().fact["split"]
    again = build(folder, tmp_path / "0", fold=0, folds=5)
    assert again.index.equals(folds[0].index)
    for sentence, asked in {
        "was built with fold": (1, 5),
        "count them from 0 to 4": (5, 5),
        "3 folds or more": (0, 2),
    }.items():
        with pytest.raises(data.DataError, match=sentence):
            build(folder, tmp_path / "0", fold=asked[0], folds=asked[1])
    with pytest.raises(UsageError, match="12 folds were asked of 10 packs"):
        build(folder, tmp_path / "many", fold=0, folds=12)


def test_what_cannot_be_built_says_so(tmp_path, pack, clips):
    few = make(tmp_path / "few", machines=1, takes=1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("")
    (tmp_path / "a.rar").write_bytes(b"Rar!")
    (tmp_path / "bad.zip").write_bytes(b"PK no zip")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.docx").write_text("")
    (tmp_path / "file").write_text("")
    old = shutil.copytree(clips.store, tmp_path / "old")
    manifest = json.loads((old / "manifest.json").read_text())
    (old / "manifest.json").write_text(json.dumps(manifest | {"version": 0}))
    torn = shutil.copytree(clips.store, tmp_path / "torn")
    (torn / "index.parquet").write_bytes(b"PAR1")
    odd = tmp_path / "odd"
    for sentence, call in {
        "4 clips are fewer than the 20": lambda: build(few, odd),
        "holds nothing": lambda: build(tmp_path / "empty", tmp_path / "odd2"),
        "holds 1 .txt": lambda: build(tmp_path / "texts", tmp_path / "odd3"),
        "there is nothing at": lambda: build(tmp_path / "missing", odd),
        "no zip or tar": lambda: build(tmp_path / "a.rar", tmp_path / "odd4"),
        "breaks off or is damaged": lambda: build(tmp_path / "bad.zip", tmp_path / "odd5"),
        "'thesis.docx' and is no store": lambda: build(pack, tmp_path / "mine"),
        "a store is a folder": lambda: build(pack, tmp_path / "file"),
        "8,192 values at 22,050 Hz, and 12,288 at 22,050": lambda: build(pack, clips.store, seconds=0.5),
        "seed 0, and 1": lambda: build(pack, clips.store, seed=1),
        "was built with source": lambda: build(few, clips.store),
        "at most 60 s": lambda: build(pack, odd, seconds=61),
        "between 4,000": lambda: build(pack, odd, rate=100),
        "version 0 and this workbench reads 1": lambda: data.Clips(old),
        "cannot be read": lambda: data.Clips(torn),
        "is no store of clips": lambda: data.Clips(tmp_path / "empty"),
        "no clip is labelled gong; the labels of this store are hat closed, kick": lambda: data.Clips(
            clips.store, labels=["gong"]
        ),
        "no clip is in the split 'tset'; the splits hold": lambda: clips.split("tset"),
    }.items():
        with pytest.raises(data.DataError) as told:
            call()
        assert sentence in str(told.value), f"{sentence!r} is not in {str(told.value)!r}"


def test_the_built_in_pack(tmp_path, monkeypatch):
    monkeypatch.setattr(data.synthesis, "TAKES", 2)
    small = data.synthesis.keys(per_class=2)
    monkeypatch.setattr(data.synthesis, "keys", lambda: small)
    clips = build("synthetic", tmp_path / "store", workers=None, seconds=0.5)
    assert len(clips) == len(small) and set(clips.labels) == set(data.synthesis.LABELS)
    assert clips.manifest["shareable"] and clips.manifest["licence"] == "CC0-1.0"
    assert clips.manifest["settings"]["split_by"] == "pack" and set(clips.index.split) >= set(data.SPLITS)
    assert {f"factor_{name}" for name in data.synthesis.FACTORS} <= set(clips.index)
    assert (clips.index.split == data.NEAR).mean() < 0.1, "the pack repeats itself"
    assert clips.index[[f"factor_{name}" for name in data.synthesis.FACTORS]].notna().all(None)
    assert build("synthetic", tmp_path / "store", seconds=0.5).index.equals(clips.index)
    few = build("synthetic", tmp_path / "few", seconds=0.5, labels=["kick", "hat open"])
    assert few.labels == ("hat open", "kick") and len(few) + len(few.rejects) == len(small)


def test_what_is_known_of_a_clip_beside_its_label():
    index = pd.DataFrame(
        {
            "pitch": [440.0, 8.2, 262.0, 100.0, 0.0],
            "pitch_confidence": [0.9, 1.0, 0.99, 0.3, 1.0],
            "attribute_style": ["Soft", "", None, "loud; rim", "a,b"],
        }
    )
    assert attributes(index) == [
        {"pitch class: A", "octave: 4", "style: soft"},
        {"pitch class: C", "octave: -1"},
        {"pitch class: C", "octave: 4"},
        {"style: loud", "style: rim"},
        {"style: a", "style: b"},
    ]


def test_attributes_are_those_of_enough_training_clips(clips):
    words = clips.attributes(least=2)
    held = clips.split("train").context(spec=words).sum(0)
    assert any(word.startswith("octave: ") for word in words) and (held >= 2).all()
    assert set(clips.attributes(least=3)) == {word for word, n in zip(words, held, strict=True) if n >= 3}


def test_each_sound_of_a_file_in_a_pack_is_a_clip(tmp_path):
    folder = make(tmp_path / "pack")
    for name, count in {"four": 4, "many": 24, "row": 60}.items():
        parts = [np.pad(hit(80 * k + 40, 10 * count + k), (0, 2205)) for k in range(count)]
        soundfile.write(folder / "Machine 0" / "bd" / f"{name}.wav", np.concatenate(parts), RATE)
    clips = build(folder, tmp_path / "store")
    cut = clips.index[clips.index.path.str.contains("four|many|row")]
    assert cut.path.value_counts().to_dict() == {
        f"Machine 0/bd/{n}.wav": k for n, k in [("four", 4), ("many", 24), ("row", 60)]
    }
    assert set(cut.label) == {"kick"} and cut.name.is_unique and (cut.events == 1).all()
    assert clips.card().fact["files cut at their sounds"] == "3, into 88 clips"


def test_the_card_says_how_labels_were_found_and_which_are_the_least_certain(tmp_path):
    folder = make(tmp_path / "pack")
    soundfile.write(folder / "Machine 0" / "thing.wav", hit(90, 501), RATE)
    soundfile.write(folder / "Machine 0" / "bd" / "Snare.wav", hit(95, 502), RATE)
    (folder / "attributes.csv").write_text("path,label\nMachine 1/bd/bd0.wav,thump\n")
    clips = build(folder, tmp_path / "store")
    assert (
        "folder and file name" in clips.card().fact["labels found by"]
        and "table 1" in clips.card().fact["labels found by"]
    )
    doubtful = clips.uncertain()
    assert list(doubtful.path[:2]) == ["Machine 0/thing.wav", "Machine 0/bd/Snare.wav"] and len(doubtful) == 10
    assert list(doubtful.label_by[:2]) == ["nothing", "folder against the file name"]
    assert clips.index.set_index("path").label_certainty["Machine 1/bd/bd0.wav"] == 1


def test_names_that_are_equal_after_normalisation_are_told_apart(tmp_path):
    folder = make(tmp_path / "pack")
    for i, name in enumerate(["caf\u00e9.wav", "cafe\u0301.wav"]):
        soundfile.write(folder / name, hit(500, 600 + i), RATE)
    for _ in range(2):
        clips = build(folder, tmp_path / "store")
        assert {"café.wav", "café-2.wav"} <= set(clips.index.path) and len(clips) == 50 and clips.rejects.empty


def test_zip_members_of_one_name_are_both_taken(tmp_path, pack):
    for i in range(2):
        soundfile.write(tmp_path / f"{i}.wav", hit(500, 700 + i), RATE)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(tmp_path / "p.zip", "w") as file:
        for path in pack.rglob("*.wav"):
            file.write(path, path.relative_to(pack))
        for i in range(2):
            file.write(tmp_path / f"{i}.wav", "Machine 0/bd/same.wav")
    clips = build(tmp_path / "p.zip", tmp_path / "store")
    assert {"Machine 0/bd/same.wav", "Machine 0/bd/same-2.wav"} <= set(clips.index.path) and len(clips) == 50


def test_names_that_are_no_utf8_cost_nothing_else(tmp_path, pack):
    folder = shutil.copytree(pack, tmp_path / "pack")
    soundfile.write(tmp_path / "x.wav", hit(500, 800), RATE)
    raw = os.fsencode(folder)
    shutil.copy(tmp_path / "x.wav", raw + b"/Machine 0/bd/caf\xe9.wav")
    os.symlink(b"nowhere-\xe9.wav", raw + b"/link.wav")
    os.mkdir(raw + b"/Machine \xe8")
    (folder / "Machine 0" / "bd" / "bad.wav").write_text("no sound")
    clips = build(folder, tmp_path / "store")
    assert "Machine 0/bd/café.wav" in set(clips.index.path) and len(clips) == 49
    assert "nowhere-é.wav" in clips.rejects.set_index("path").reason["link.wav"]
    with tarfile.open(tmp_path / "p.tar", "w") as file:
        file.add(folder, ".")
    again = build(tmp_path / "p.tar", tmp_path / "of_tar")
    assert again.fingerprint == clips.fingerprint


def test_one_member_never_costs_the_archive(tmp_path, pack):
    with zipfile.ZipFile(tmp_path / "p.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(zipfile.ZipInfo("Machine 0\\"), b"")
        folder = zipfile.ZipInfo("Machine 1")
        folder.external_attr = 0x10  # MS-DOS: a folder
        file.writestr(folder, b"")
        for path in sorted(pack.rglob("*.wav")):
            entry = zipfile.ZipInfo("x")
            entry.filename = str(path.relative_to(pack)).replace("/", "\\")
            file.writestr(entry, path.read_bytes())
        soundfile.write(tmp_path / "new.wav", hit(500, 900), RATE)
        for name in ("x", "é"):
            file.writestr(f"Machine 0/{300 * name}.wav", (tmp_path / "new.wav").read_bytes())
        file.writestr("Machine 0/notes", b"text")
        file.writestr("Machine 0/notes/deep.wav", (pack / "Machine 0/bd/bd0.wav").read_bytes())
        file.writestr("Machine 0/.hidden/a.txt", b"text")
        fifo = zipfile.ZipInfo("Machine 0/fifo.wav")
        fifo.external_attr = (stat.S_IFIFO | 0o600) << 16
        file.writestr(fifo, b"")
        file.writestr("Machine 0/bd/bd0.wav/inside.wav", b"below a file")
        file.writestr("Machine 0/damaged.wav", bytes(range(256)) * 40)
    whole = bytearray((tmp_path / "p.zip").read_bytes())
    place = whole.index(b"Machine 0/damaged.wav") + 60
    whole[place : place + 20] = b"\xff" * 20
    (tmp_path / "p.zip").write_bytes(whole)
    clips = build(tmp_path / "p.zip", tmp_path / "store")
    long = [f"Machine 0/{200 * 'x'}.wav", f"Machine 0/{100 * 'é'}.wav"]
    assert len(clips) == 49 and long[0] in set(clips.index.path), "names that no disk takes are shortened"
    refused = dict(zip(clips.rejects.path, clips.rejects.reason, strict=True))
    same = {long[1]: long[0], "Machine 0/notes/deep.wav": "Machine 0/bd/bd0.wav"}
    assert all(refused.pop(path) == f"the same sound as {other}" for path, other in same.items())
    assert refused.pop("Machine 0/fifo.wav") == "this is no regular file"
    assert set(refused) == {"Machine 0/bd/bd0.wav/inside.wav", "Machine 0/damaged.wav"}
    assert all("cannot be unpacked" in reason for reason in refused.values())
    assert clips.manifest["ignored"] == {"no suffix": 1, "hidden": 1}


def test_hard_links_within_a_tar_archive_are_taken_and_what_is_no_file_is_told_apart(tmp_path, pack):
    soundfile.write(tmp_path / "new.wav", hit(500, 900), RATE)
    with tarfile.open(tmp_path / "p.tar", "w") as file:
        file.add(pack, ".")
        file.add(tmp_path / "new.wav", "./first")
        for name, kind, target in (
            ("Machine 0/hard.wav", tarfile.LNKTYPE, "./first"),
            ("Machine 0/harder.wav", tarfile.LNKTYPE, "Machine 0/hard.wav"),
            ("Machine 0/gone.wav", tarfile.LNKTYPE, "/etc/passwd"),
            ("Machine 0/soft.wav", tarfile.SYMTYPE, "first"),
            ("Machine 0/fifo.wav", tarfile.FIFOTYPE, ""),
            ("Machine 0/device.wav", tarfile.CHRTYPE, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            file.addfile(member)
    clips = build(tmp_path / "p.tar", tmp_path / "store")
    assert len(clips) == 49 and "Machine 0/hard.wav" in set(clips.index.path)
    refused = dict(zip(clips.rejects.path, clips.rejects.reason, strict=True))
    assert refused == {
        "Machine 0/harder.wav": "the same sound as Machine 0/hard.wav",
        "Machine 0/gone.wav": "a hard link to /etc/passwd, which the archive does not hold before it",
        "Machine 0/soft.wav": "a link inside an archive, which is not followed",
        "Machine 0/fifo.wav": "this is no regular file",
        "Machine 0/device.wav": "this is no regular file",
    }
    assert clips.manifest["ignored"] == {"no suffix": 1}


def test_an_empty_source_is_not_the_current_folder(tmp_path, monkeypatch, pack):
    monkeypatch.chdir(pack)
    for source in ("", "  "):
        with pytest.raises(data.DataError, match="no source was given"):
            build(source, tmp_path / "store")


def test_an_error_of_another_file_is_not_the_fault_of_the_store(tmp_path, pack, monkeypatch):
    def fails(*_, **__):
        raise FileExistsError(17, "File exists", str(pack / "Machine 0"))

    monkeypatch.setattr(packs, "scan", fails)
    with pytest.raises(data.DataError, match=r"Machine 0: File exists"):
        build(pack, tmp_path / "store")


def test_takes_of_one_sound_are_warned_of(tmp_path, capsys):
    for i in range(40):
        path = tmp_path / "pack" / f"take {i}.wav"
        path.parent.mkdir(exist_ok=True)
        noise = 1e-3 * np.random.default_rng(i).standard_normal(4410)
        soundfile.write(path, hit(60, 0) + noise.astype(np.float32), RATE)
    clips = build(tmp_path / "pack", tmp_path / "store", progress=True)
    said = capsys.readouterr().out
    assert "Nothing can be trained of this store yet" in said and "add sounds that differ" in said
    with pytest.raises(data.DataError, match="add sounds that differ"):
        clips.trainable()


@pytest.mark.parametrize("stem", ["clips", "vectors"])
def test_a_damaged_shard_is_a_sentence(clips, tmp_path, stem):
    store = shutil.copytree(clips.store, tmp_path / "store")
    for way in spoilt(store / f"{stem}-00000.npy"):
        with pytest.raises(data.DataError) as error:
            again = data.Clips(store)
            again.audio() if stem == "clips" else again.vectors()
        assert f"{stem}-00000.npy is damaged" in str(error.value), way
