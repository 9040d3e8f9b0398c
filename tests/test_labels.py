"""Labels: the nearest and most specific word wins, and each says what it was found by."""

import pytest

from workbench.data import labels


@pytest.mark.parametrize(
    "path, label",
    {
        "Hats/Open/1.wav": "hat open",
        "Pack/Hats/Closed/1.wav": "hat closed",
        "Pack/Hats/01_open.wav": "hat open",
        "Pack/Drums/Hat/Op/3.wav": "hat open",
        "Pack/Open HiHats/a.wav": "hat open",
        "Pack/hh/oh3.wav": "hat open",
        "Pack/Hats/Open and Closed/oh1.wav": "hat open",
        "Kicks and Snares/Snare 1.wav": "snare",
        "Pack/Kicks & Snares/Kick 1.wav": "kick",
        "Pack/Toms + Rims/Rim 1.wav": "rim",
        "Pack/Claps & Snaps/1.wav": "clap",
        "Pack/Kicks_Snares/01.wav": "other",
        "Cr8kohat.wav": "hat open",
        "Pack/Cr8kchat.wav": "hat closed",
        "Pack/Cr8kcym.wav": "crash",
        "Pack/Cr78rim.wav": "rim",
        "Pack/TR606oh.wav": "hat open",
        "Pack/CR78 01.wav": "other",
        "Pack/TB-303 01.wav": "other",
        "Pack/TB-303 bass 2.wav": "bass",
        "Pack/SH-101 01.wav": "other",
        "Pack/MT-32 SD.wav": "snare",
        "Pack/RD-8 BD.wav": "kick",
        "Pack/Snares/Kick drum/a.wav": "kick",
        "Pack/Percussion/Cowbell 1.wav": "cowbell",
        "Pack/Perc/Shakers/1.wav": "shaker",
        "Pack/Cymbals/Ride/1.wav": "ride",
        "01 Kicks/a.wav": "kick",
        "03 Hats/Open/1.wav": "hat open",
        "Hihats/Opened/3.wav": "hat open",
        "Vendor/hats_opened/1.wav": "hat open",
        "Open/Hats/1.wav": "hat open",
        "Pack/Open/Hat 3.wav": "hat open",
        "HH/O/1.wav": "hat open",
        "Pack/Hats/808 O 04.wav": "hat open",
        "Pack/Hats/Hat_O.wav": "hat open",
        "Hats/Open & Closed/OH 1.wav": "hat open",
        "Hats Closed & Open/OH 1.wav": "hat open",
        "Open and Closed Hats/Hat Open 3.wav": "hat open",
        "Open and Closed Hats/CH 3.wav": "hat closed",
        "Pack/Tight Open Hats/1.wav": "hat open",
        "Sds5tom.wav": "tom",
        "Sds800kick.wav": "kick",
        "SDS kick.wav": "kick",
        "Pack/SDS 01.wav": "other",
        "Percussion/Kick 2.wav": "kick",
        "Hats/Kick 1.wav": "kick",
        "Cymbals/Snare 1.wav": "snare",
        "BDs/1.wav": "kick",
        "Pack/SDs/1.wav": "snare",
        "Pack/Synth BD 1.wav": "kick",
        "Percussion/Tom 2.wav": "tom",
        "Percussion/Clap 3.wav": "clap",
        "Pack/perc/FX_023.wav": "perc",
        "Pack/perc/Snap.wav": "perc",
        "Hats/Ride 1.wav": "ride",
        "Cymbal Ride.wav": "ride",
        "Perc Shaker.wav": "shaker",
        "Noise Snare.wav": "snare",
        "Lead Snare.wav": "snare",
        "bass_kick.wav": "kick",
        "Synth Bass 1.wav": "bass",
        "Synth Cymbal.wav": "crash",
        "Synth Pad 2.wav": "pad",
        "hat_snap.wav": "hat closed",
        "glitch_perc1.wav": "fx",
        "Kr33kosn.wav": "snare",
        "Cr8kcymb.wav": "crash",
        "Linnohat.wav": "hat open",
        "Jomoxohat.wav": "hat open",
        "Dmxcym.wav": "crash",
        "linnsnr.wav": "snare",
        "Sdsvtom.wav": "tom",
        "Pack/v2rush.wav": "other",
        "Vendor/Claps_Snares/3.wav": "other",
        "Toms & Kicks/Floor 3.wav": "other",
        "Pack/Bass & Kicks/1.wav": "other",
        "Pack/SD & HH/1.wav": "other",
        "Pack/Noise Snares/1.wav": "snare",
        "Pack/Bass Synth/1.wav": "bass",
        "Vendor/SD long/3.wav": "snare",
        "bd_long/3.wav": "kick",
        "KSHMR Kick & Snare Vol 1/a.wav": "other",
    }.items(),
)
def test_the_nearest_and_most_specific_word_wins(path, label):
    assert labels.named(path).label == label


@pytest.mark.parametrize(
    "folder, label",
    {
        "01 Kicks": "kick",
        "1. Kicks": "kick",
        "03 Hats": "hat closed",
        "Acoustic Kicks": "kick",
        "Kick Samples": "kick",
        "Kicks - Acoustic": "kick",
        "Snare One Shots": "snare",
        "Kicks & Snares": "other",
        "SD long": "snare",
    }.items(),
)
def test_a_folder_of_classes_and_ordinary_words_is_no_pack(folder, label):
    assert labels.named(f"{folder}/1.wav")[:2] == (label, "")


@pytest.mark.parametrize(
    "pack",
    [
        "Kick Drum Pack 3",
        "808 Kicks Vol 2",
        "KSHMR Kick & Snare Vol 1",
        "RolandTR808",
        "My Pack Vol. 2",
        "Kick Library",
    ],
)
def test_a_pack_may_bear_the_name_of_a_class(pack):
    assert labels.named(f"{pack}/1.wav").pack == pack


@pytest.mark.parametrize(
    "path, by",
    {
        "P/Kick/kick 1.wav": "folder and file name",
        "P/Kick/a.wav": "folder",
        "P/a/Kick.wav": "file name",
        "P/a/bd1.wav": "abbreviation in the file name",
        "P/thunder/a.wav": "folder of the pack's own",
        "P/Kick/Snare.wav": "folder against the file name",
        "Kick Drum Pack 3/a.wav": "name of the pack",
        "P/a.wav": "nothing",
        "P/Claps_Snares/3.wav": "nothing",
    }.items(),
)
def test_each_label_says_what_it_was_found_by(path, by):
    found = labels.named(path)
    assert (found.by, found.certainty) == (by, labels.CERTAIN[by])


def test_whoever_agrees_is_more_certain_than_who_contradicts():
    order = ["P/Kick/kick.wav", "P/Kick/a.wav", "P/a/Kick.wav", "P/a/bd1.wav", "P/Kick/Snare.wav", "P/a.wav"]
    certain = [labels.named(path).certainty for path in order]
    assert certain == sorted(certain, reverse=True) and len(set(certain)) == len(certain)
