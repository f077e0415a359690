"""The activity of a process, as shared with other ranks."""

from engine import activity


def test_activities_are_nested_and_name_the_stage_and_the_file():
    with activity.doing("training", stage=True):
        activity.progress(12)
        with activity.doing("waiting for data", detail=lambda: "a.mp4"):
            mine = activity.current()
            assert (mine["name"], mine["stage"], mine["step"]) == ("waiting for data (a.mp4)", "training", 12)
        assert activity.current()["name"] == "training"
    assert activity.current()["stage"] == "starting"
