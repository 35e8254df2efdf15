"""Links of the scorer's benchmark are found, each as an image of its own."""

from benchmarks.score.many import link_files, planning_seconds
from export.scoring.inputs.listing import find_images
from export.scoring.plan import ScoreSettings
from tests.pictures import write_two_classes


def test_links_are_images_of_their_own(tmp_path):
    write_two_classes(tmp_path / "real", 2, 1)
    files = sorted((tmp_path / "real").rglob("*.png"))
    link_files(files, tmp_path / "links", 2001)
    found = find_images([tmp_path / "links"]).paths
    assert len(found) == 2001
    assert found[-1].endswith("0002/002000.png")
    assert planning_seconds(tmp_path / "links", ScoreSettings("", {})) > 0
