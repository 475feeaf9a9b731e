"""Figures as files: sizes, fonts, and words that lie on top of one another."""

import io
import itertools
import re
import struct
import types
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from fedjax_edu.data import Task
from fedjax_edu.study import plots
from fedjax_edu.study.calibration import measure_calibration
from fedjax_edu.study.figures import COLOURS, ONE_COLUMN, TWO_COLUMNS, figure
from fedjax_edu.study.records import History
from fedjax_edu.study.results import task_result
from fedjax_edu.study.task_run import TaskRun

TASKS = tuple(Task(name, "binary" if name in "dk" else "regression", title=f"STUDY {name.upper()} mathematics") for name in "abcdefghijk")


def predictions(task, rows=30):
    """Twelve schools, one of which is far below the others."""
    rng = np.random.default_rng(0)
    signal = rng.normal(size=12 * rows)
    targets = (signal > 0).astype(float) if task.binary else signal
    noise = np.where(np.arange(12 * rows) < rows, 3.0, 0.6)
    models = {
        name: signal + error * noise * rng.normal(size=len(signal))
        for name, error in {"federated": 1, "local_network": 1.2, "ridge": 1.3}.items()
    }
    return TaskRun(task, 1, 0, np.repeat(np.arange(12), rows), targets, models)


def result_of(tasks, rows=30):
    of_tasks = {task.name: task_result(predictions(task), predictions(task, rows)) for task in tasks}
    return types.SimpleNamespace(compared=tasks, tasks=of_tasks)


def draw_schools(path, tasks, rows=30):
    plots.schools(path, [predictions(task) for task in tasks], [predictions(task, rows) for task in tasks], result_of(tasks, rows))


def draw_learning_curve(path, tasks, height=0.5):
    records = [{"round": n, "losses": {task.name: 1 / n for task in tasks}} for n in range(1, 31)]
    for n in (10, 20, 30):
        records[n - 1]["held_out"] = {task.name: height - 1 / n for task in tasks}
    plots.learning_curve(path, History(records), result_of(tasks))


def draw_reliability(path):
    rng = np.random.default_rng(0)
    p = rng.random(1000)
    models = {"federated": p, "ridge": p**2}
    plots.reliability(
        path, measure_calibration([TaskRun(TASKS[3], 1, 0, np.zeros(1000), (rng.random(1000) < p).astype(float), models)]), "d"
    )


@pytest.fixture
def drawn(monkeypatch):
    """The figures as Matplotlib's objects, as they are when the first file has been written; there are no others."""
    found, save = [], Figure.savefig

    def save_first(self, path, **options):
        if path.suffix == ".png":
            save(self, io.BytesIO(), format="png", dpi="figure")
            found.append(self)

    monkeypatch.setattr(Figure, "savefig", save_first)
    return found


def inches(path):
    """Width and height of a PDF, an SVG or a PNG of 300 dots an inch."""
    if path.suffix == ".pdf":
        (box,) = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", path.read_bytes())
        return [float(side) / 72 for side in box]
    if path.suffix == ".svg":
        root = ET.parse(path).getroot()
        return [float(root.attrib[side].removesuffix("pt")) / 72 for side in ("width", "height")]
    return [side / 300 for side in struct.unpack(">II", path.read_bytes()[16:24])]


@pytest.mark.parametrize("width", [ONE_COLUMN, TWO_COLUMNS])
def test_files_have_the_size_asked_for_fonts_inside_and_no_clock(tmp_path, width):
    for name in ("first", "second"):
        with figure(tmp_path / f"{name}.png", width=width, height=2.0) as (_, axes):
            axes[0, 0].plot([0, 1], [0, 1])
            axes[0, 0].set_title("words")
    for suffix in (".png", ".pdf", ".svg"):
        path = tmp_path / f"first{suffix}"
        assert inches(path) == pytest.approx([width, 2.0], abs=0.01)
        assert path.read_bytes() == (tmp_path / f"second{suffix}").read_bytes()
    pdf = (tmp_path / "first.pdf").read_bytes()
    assert b"/FontFile2" in pdf  # TrueType, embedded
    assert b"/Type3" not in pdf
    svg = ET.parse(tmp_path / "first.svg")
    assert svg.getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert not list(svg.iter("{http://www.w3.org/2000/svg}text"))


def words(drawn):
    """Every word that a figure shows, with its box."""
    unseen = set()  # Matplotlib keeps ticks beyond the ends of an axis, and does not draw them
    for axis in (axis for axes in drawn.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        unseen |= {tick.label1 for tick in axis.get_major_ticks() if not low - 1e-9 <= tick.get_loc() <= high + 1e-9}
    texts = [text for text in drawn.findobj(Text) if text.get_visible() and text.get_text().strip() and text not in unseen]
    hidden = {text for axes in drawn.axes if not axes.axison for axis in (axes.xaxis, axes.yaxis) for text in axis.findobj(Text)}
    return [(text.get_text(), text.get_window_extent()) for text in texts if text not in hidden]


def misplaced(drawn):
    """Pairs of words of which one lies on the other, and words that leave the page."""
    boxes, page = words(drawn), drawn.bbox.padded(1)
    overlapping = [
        (one, other)
        for (one, box), (other, other_box) in itertools.combinations(boxes, 2)
        if min(box.x1, other_box.x1) - max(box.x0, other_box.x0) > 0.5 and min(box.y1, other_box.y1) - max(box.y0, other_box.y0) > 0.5
    ]
    return overlapping + [word for word, box in boxes if box.x0 < page.x0 or box.x1 > page.x1 or box.y0 < page.y0 or box.y1 > page.y1]


@pytest.mark.parametrize("count", [1, 4, 11])
def test_no_word_of_the_schools_lies_on_another(tmp_path, drawn, count):
    draw_schools(tmp_path / "schools.png", TASKS[:count])
    assert len(drawn) == 1
    assert misplaced(drawn[0]) == []
    assert drawn[0].get_figwidth() == TWO_COLUMNS


def test_small_print_of_the_schools_lies_outside_the_points(tmp_path, drawn):
    draw_schools(tmp_path / "schools.png", TASKS[:2], rows=10)  # too few within: held-out schools
    for axis in drawn[0].axes:
        (note,) = axis.texts
        assert note.get_text().startswith("held-out schools\nmean ")
        assert note.get_window_extent().y0 > axis.get_window_extent().y1


@pytest.mark.parametrize("count", [4, 11])
def test_no_word_of_the_learning_curve_lies_on_another_and_lines_differ(tmp_path, drawn, count):
    draw_learning_curve(tmp_path / "curve.png", TASKS[:count])
    assert misplaced(drawn[0]) == []
    styles = [(line.get_color(), line.get_linestyle()) for line in drawn[0].axes[0].lines if not line.get_label().startswith("_")]
    assert len(set(styles)) == count


def test_a_title_is_shown_as_it_is_written(tmp_path, drawn):
    """Matplotlib would read what stands between dollars as mathematics, and leave a leading underscore out of the legend."""
    titles = [r"$\frac$", "cost $x to $y", "_hidden"]
    tasks = tuple(Task(title, "regression") for title in titles)
    draw_learning_curve(tmp_path / "curve.png", tasks)
    draw_schools(tmp_path / "schools.png", tasks)
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == titles
    assert not any(text.get_parse_math() for each in drawn for text in each.findobj(Text) if text.get_text() in titles)


def test_the_reliability_plot_has_a_point_and_a_count_a_bin(tmp_path, drawn):
    draw_reliability(tmp_path / "reliability.png")
    curve, counts = drawn[0].axes
    assert [len(line.get_xdata()) for line in curve.lines] == [10, 10, 2]
    assert counts.lines[0].get_ydata().tolist() == [100] * 10
    assert drawn[0].get_figwidth() == ONE_COLUMN
    assert misplaced(drawn[0]) == []


def lightness(colour, kind):
    """sRGB as a viewer without one kind of cones sees it (Viénot, Brettel and Mollon, 1999), in linear light."""
    linear = np.array([int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]) ** 2.2
    seen = {"protan": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]}
    seen["deutan"] = [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]
    return (np.array(seen[kind]) @ linear).clip(0) ** (1 / 2.2)


@pytest.mark.parametrize("kind", ["protan", "deutan"])
def test_colours_differ_to_the_colour_blind(kind):
    for one, other in itertools.combinations(COLOURS, 2):
        assert np.linalg.norm(lightness(one, kind) - lightness(other, kind)) > 0.1, (one, other)


@pytest.mark.parametrize("height", [1.08, -0.4])
def test_scores_near_one_and_below_zero_are_drawn(tmp_path, monkeypatch, height):
    shown = []
    monkeypatch.setattr(plots, "_limits", lambda axis, limits=plots._limits: shown.append((axis, limits(axis))) or shown[-1][1])
    draw_learning_curve(tmp_path / "curve.png", TASKS[:2], height)
    ((axis, (low, high)),) = shown
    scored = np.concatenate([line.get_ydata() for line in axis.lines])
    assert low < scored.min() and scored.max() < high
