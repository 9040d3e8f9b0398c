"""Labels: the nearest and most specific word wins, and each says what it was found by."""

import pytest

from workbench import labels


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
        "Pack/Kicks_Snares/01.wav": "kicks snares",
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
    }.items(),
)
def test_the_nearest_and_most_specific_word_wins(path, label):
    assert labels.named(path).label == label


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
    }.items(),
)
def test_each_label_says_what_it_was_found_by(path, by):
    found = labels.named(path)
    assert (found.by, found.certainty) == (by, labels.CERTAIN[by])


def test_whoever_agrees_is_more_certain_than_who_contradicts():
    order = ["P/Kick/kick.wav", "P/Kick/a.wav", "P/a/Kick.wav", "P/a/bd1.wav", "P/Kick/Snare.wav", "P/a.wav"]
    certain = [labels.named(path).certainty for path in order]
    assert certain == sorted(certain, reverse=True) and len(set(certain)) == len(certain)
