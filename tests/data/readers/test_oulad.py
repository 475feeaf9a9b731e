"""OULAD: inputs end at the cut, tasks are what happened."""

import random
from collections import Counter

import numpy as np
import pytest

from fedjax_edu.core.errors import ArgumentError, DataError
from fedjax_edu.data.readers import oulad
from tests.data.readers import public_files


def append(folder, name, *lines):
    with (folder / name).open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def inputs(population):
    return {name: leaf for name, leaf in population.leaves().items() if name.split(".")[0] in ("numbers", "categories")}


def test_presentations(tmp_path):
    population = oulad(public_files.oulad(tmp_path))
    assert population.texts == {"presentation": ("AAA 2013J", "BBB 2014B"), "id_student": ("11391", "28400", "30268")}
    assert population.offsets.tolist() == [0, 3, 4]
    arrays = population.arrays
    assert arrays["unit"].tolist() == [0, 1, 2, 1]
    assert arrays["numbers"]["clicks_resource"].tolist() == [0, 7, 0, 0]  # 4 before the start, 3 on day 27, not 100 on day 28
    assert arrays["numbers"]["clicks_forumng"].tolist() == [0, 5, 0, 0]
    assert arrays["numbers"]["clicks_homepage"].tolist() == [0, 0, 0, 9]
    assert arrays["numbers"]["date_registration"].tolist() == [-159, -53, 0, 0]
    assert arrays["present"]["date_registration"].tolist() == [True, True, False, False]  # one registered on day 40, of one it is not known
    assert arrays["present"]["clicks_homepage"].all()
    assert arrays["categories"]["imd_band"].tolist() == [1, 0, -1, 0]
    assert arrays["present"]["imd_band"].tolist() == [True, True, False, True]
    assert population.schema.groups == {"sex": ("gender",), "ses": ("imd_band",)}


def test_tasks(tmp_path):
    arrays = oulad(public_files.oulad(tmp_path)).arrays
    assert arrays["targets"]["pass"].tolist() == [0, 1, 0, 1]
    assert arrays["targets"]["score"].tolist() == [0, 75, 0, 91]  # the mean of 70 and 80; 91 alone, for 50 was transferred
    assert arrays["present"]["score"].tolist() == [False, True, False, True]
    assert arrays["present"]["pass"].all()


def test_regions(tmp_path):
    population = oulad(public_files.oulad(tmp_path), client="region")
    assert population.texts["region"] == ("East Anglian Region", "Scotland")
    assert population.offsets.tolist() == [0, 1, 4]
    assert population.arrays["unit"].tolist() == [0, 1, 1, 2]
    assert "region" not in {feature.name for feature in population.schema.features}


@pytest.mark.parametrize("weeks", [0, 1, 4])
def test_nothing_after_the_cut_is_an_input(tmp_path, weeks):
    before = inputs(oulad(public_files.oulad(tmp_path), weeks=weeks))
    cut = 7 * weeks
    append(tmp_path, "studentVle.csv", f"AAA,2013J,28400,546943,{cut},1000", f"AAA,2013J,11391,546712,{cut + 1},1000")
    append(tmp_path, "studentAssessment.csv", f"1757,30268,{cut},0,3", f"1752,30268,{cut + 1},0,4")
    registrations = tmp_path / "studentRegistration.csv"
    registrations.write_text(registrations.read_text().replace('"40","?"', f'"{cut}","{cut + 1}"').replace('"12"', '"300"'))
    after = inputs(oulad(tmp_path, weeks=weeks))
    assert before.keys() == after.keys()
    for name, leaf in before.items():
        np.testing.assert_array_equal(leaf, after[name], err_msg=name)
    append(tmp_path, "studentVle.csv", f"AAA,2013J,28400,546943,{cut - 1},1000")
    assert (oulad(tmp_path, weeks=weeks).arrays["numbers"]["clicks_resource"] - after["numbers.clicks_resource"]).tolist() == [
        0,
        1000,
        0,
        0,
    ]


def test_clicks_are_those_that_a_loop_counts(tmp_path):
    public_files.oulad(tmp_path)
    draw = random.Random(0)
    sites = {546943: "clicks_resource", 546712: "clicks_forumng", 546998: "clicks_homepage"}
    clicks = [
        (draw.choice([11391, 28400, 30268]), draw.choice(list(sites)), draw.randrange(-20, 60), draw.randrange(1, 9)) for _ in range(500)
    ]
    header = "code_module,code_presentation,id_student,id_site,date,sum_click"
    lines = [f"AAA,2013J,{student},{site},{day},{count}" for student, site, day, count in clicks]
    (tmp_path / "studentVle.csv").write_text("\n".join([header, *lines, ""]))
    expected = Counter()
    for student, site, day, count in clicks:
        expected[student, sites[site]] += count * (day < 14)
    numbers = oulad(tmp_path, weeks=2).arrays["numbers"]
    for kind in sites.values():
        assert numbers[kind].tolist() == [expected[student, kind] for student in (11391, 28400, 30268)] + [0]


def test_references_to_nothing_are_errors(tmp_path):
    append(public_files.oulad(tmp_path), "studentVle.csv", "AAA,2013J,28400,5,1,1")
    with pytest.raises(DataError, match=r"studentVle.csv: id_site: got 5; expected a site of vle.csv"):
        oulad(tmp_path)
    append(public_files.oulad(tmp_path), "studentAssessment.csv", "6,28400,1,0,50")
    with pytest.raises(DataError, match=r"studentAssessment.csv: id_assessment: got 6; expected an assessment of assessments.csv"):
        oulad(tmp_path)


def test_arguments(tmp_path):
    with pytest.raises(ArgumentError, match="client: got school; use 'presentation' or 'region'"):
        oulad(tmp_path, client="school")
    with pytest.raises(ArgumentError, match="weeks: got -1; use an integer, 0 or more"):
        oulad(tmp_path, weeks=-1)
