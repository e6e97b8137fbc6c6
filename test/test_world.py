"""The preset ``world``: holds under any gravity, looks that leave labels alone, and assets."""

import re

import cv2
import mujoco
import numpy as np
import pytest

from grasp_success_detector.cli.simulate_grasps import main
from grasp_success_detector.errors import SimulationError
from grasp_success_detector.labels import Label
from grasp_success_detector.recordings.bags import (
    GROUND_TRUTH_TOPIC,
    HAND_BOX_TOPIC,
    open_bag,
)
from grasp_success_detector.simulation import looks, photo
from grasp_success_detector.simulation.assets import Assets, load_assets
from grasp_success_detector.simulation.hand_model import HandModel
from grasp_success_detector.simulation.holds import FALL_S, run_hold
from grasp_success_detector.simulation.meshes import Mesh, simplified
from grasp_success_detector.simulation.presets import Preset, RecordingSettings
from grasp_success_detector.simulation.recorder import record
from grasp_success_detector.simulation.scene import OPEN
from grasp_success_detector.simulation.studio import Solid, Studio, View
from grasp_success_detector.simulation.things import draw_thing, KINDS, scaled
from grasp_success_detector.simulation.world import make_hold, make_world_episode, take_shot

RED = (1., 0., 0.)


@pytest.fixture(scope='module')
def studio():
    made = Studio(96, 72, Assets())
    yield made
    made.close()


def front_view():
    return View(np.array([0., -1., 0.]), np.array([[1., 0, 0], [0, 0, -1], [0, 1, 0]]), 45.,
                np.full(3, .5), np.full(3, .5))


@pytest.mark.slow
def test_some_holds_succeed_and_others_fail_under_gravity_from_all_sides():
    holds = []
    for i in range(12):
        rng = np.random.default_rng([1, i])
        holds.append(run_hold(rng, draw_thing(rng), 20.))
    ends = [poses[-1].label for poses in holds if poses]
    assert {Label.SUCCESS, Label.FAILURE} <= set(ends)
    assert np.ptp([poses[0].down for poses in holds if poses], axis=0).min() > 1.


def test_nothing_is_held_before_gravity_and_what_is_held_stays_in_the_hand():
    for i in range(8):
        rng = np.random.default_rng([1, i])
        poses = run_hold(rng, draw_thing(rng), 20.) or []
        held = [pose for pose in poses if pose.label is Label.SUCCESS]
        assert all(pose.time_s > FALL_S for pose in held)
        if held:
            assert np.linalg.norm(held[0].position - held[-1].position) < .02
        gone = [pose for pose in poses if pose.label is Label.FAILURE]
        assert not held or not gone


@pytest.mark.parametrize('kind', KINDS)
def test_things_fit_into_a_picture_and_scale(kind):
    rng = np.random.default_rng(0)
    thing = next(of for of in (draw_thing(rng) for _ in range(1000)) if of.kind == kind)
    assert .0005 < thing.half_extents.min() and thing.half_extents.max() < .2
    np.testing.assert_allclose(scaled(thing, 2.).half_extents, 2 * thing.half_extents)


def test_labels_do_not_depend_on_the_looks_nor_on_the_size_of_the_picture(studio):
    hand = HandModel()
    one = make_world_episode(4, 2, 4, 1, studio, hand)
    three = make_world_episode(4, 2, 4, 3, studio, hand)
    assert [frame.label for frame in one.frames[:-2] for _ in range(3)] == [
        frame.label for frame in three.frames[:-2]]
    assert one.success == three.success
    np.testing.assert_array_equal(one.frames[1].image, three.frames[3].image)
    assert not np.array_equal(three.frames[3].image, three.frames[4].image)
    times = [frame.time_s for frame in three.frames]
    assert times == sorted(set(times))
    for without_hand, other in zip(three.frames[-2:], one.frames[-2:], strict=True):
        assert without_hand.label is None and without_hand.box is None
        np.testing.assert_array_equal(without_hand.image, other.image)
    for frame in three.frames[:-2]:
        left, top, right, bottom = frame.box
        assert 0 <= left < right <= 96 and 0 <= top < bottom <= 72


def test_a_held_object_is_seen():
    made = Studio(96, 72, Assets())
    hand, shown = HandModel(), []
    original = made.render
    made.render = lambda solids, view: shown.append(original(solids, view)) or shown[-1]
    try:
        hold = next(of for of in (make_hold(4, i, made) for i in range(20)) if of.success)
        held = next(pose for pose in hold.poses if pose.label is Label.SUCCESS)
        for seed in range(8):
            shown.clear()
            shot = take_shot(np.random.default_rng(seed), made, hand, hold, held)
            if shot is None:
                continue
            (_, with_it), (_, without) = shown[-2:]     # the picture, and the same without it
            left, top, right, bottom = shot.box
            assert (with_it < without).sum() > .02 * (right - left) * (bottom - top)
    finally:
        made.close()


def test_the_same_grips_are_shown_with_and_without_an_object(studio):
    holds = [hold for hold in (make_hold(4, i, studio) for i in range(12)) if hold.success]
    late = [pose.label for hold in holds for pose in hold.poses if pose.time_s > FALL_S + .3]
    assert .1 < late.count(Label.FAILURE) / len(late) < .5
    assert all(pose.label is Label.FAILURE for hold in (make_hold(4, i, studio) for i in range(12))
               if not hold.success for pose in hold.poses)


def test_same_seed_same_pixels(studio):
    again = Studio(96, 72, Assets())
    try:
        for first, second in zip(make_world_episode(4, 7, 2, 1, studio, HandModel()).frames,
                                 make_world_episode(4, 7, 2, 1, again, HandModel()).frames,
                                 strict=True):
            np.testing.assert_array_equal(first.image, second.image)
    finally:
        again.close()
    assert make_hold(4, 7, studio).poses[0].down.tolist() != make_hold(
        5, 7, studio).poses[0].down.tolist()


def test_the_studio_shows_solids_where_the_view_projects_them(studio):
    view = front_view()
    solid = Solid(mujoco.mjtGeom.mjGEOM_BOX, (.05, .05, .05), np.array([.2, 0., .1]), np.eye(3),
                  RED)
    image, distances = studio.render([solid], view)
    (x, y), = view.project(np.array([[.2, -.05, .1]]), 96, 72)[0].round().astype(int)
    assert image[y, x, 0] > 100 and image[y, x, 1] < 20
    assert abs(distances[y, x] - .95) < .01
    assert np.isinf(distances[2, 2])
    behind = np.full((72, 96, 3), 77, np.uint8)
    mixed = photo.composite(image, distances, behind)
    assert (mixed[2, 2] == 77).all() and (mixed[y, x] == image[y, x]).all()


def test_capsules_and_cylinders_reach_from_end_to_end(studio):
    for kind in (mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_CYLINDER):
        rod = looks.rod(np.array([-.3, 0, 0]), np.array([.3, 0, 0]), .02, RED, kind=kind)
        image, _ = studio.render([rod], front_view())
        columns = np.flatnonzero(image[36, :, 0] > 60)
        assert columns[0] < 30 and columns[-1] > 65


def test_hands_turn_as_gravity_pulls(studio):
    rng = np.random.default_rng(0)
    down = np.array([.6, 0, .8])
    turn = looks.upright(rng, down)
    np.testing.assert_allclose(turn @ down, [0, 0, -1], atol=1e-9)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(turn) > 0
    hand = HandModel()
    hand.pose(OPEN)
    stage = looks.Stage(turn)
    looks.HandLook(rng, studio, plain=True).add(stage, hand, turn)
    assert len(stage.hand) == len(list(hand.geoms(turn)))


def test_cameras_keep_size_and_type_of_a_picture():
    image = np.full((72, 96, 3), 128, np.uint8)
    for seed in range(40):
        out = photo.expose(np.random.default_rng(seed), image)
        assert out.shape == image.shape and out.dtype == np.uint8


def test_meshes_lose_vertices_and_keep_their_size():
    ring = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    vertices = np.concatenate([np.stack([np.cos(ring), np.sin(ring), np.full(400, z)], 1)
                               for z in (-.5, .5)])
    numbers = np.arange(400)
    faces = np.stack([numbers, (numbers + 1) % 400, numbers + 400], 1)
    few = simplified(Mesh(vertices, faces), .1)
    assert 30 < len(few.vertices) < 200
    np.testing.assert_allclose(np.ptp(few.vertices, axis=0), np.ptp(vertices, axis=0), atol=.1)
    assert simplified(Mesh(vertices, faces), 5.).vertices.shape == vertices.shape


ARM = """<mujoco><asset><mesh name="m" vertex="{vertices}"/></asset><worldbody>
<body name="base"><geom type="mesh" mesh="m" group="1" rgba="1 0 0 1"/><geom size=".1" group="0"/>
<body name="link" pos="0 0 .3"><joint axis="0 1 0" range="-2 2"/><inertial pos="0 0 0" mass="1"
diaginertia="1 1 1"/><geom type="mesh" mesh="m" group="1"/><body name="right_hand" pos="0 0 .2"/>
</body></body></worldbody></mujoco>"""


@pytest.fixture
def folder(tmp_path):
    """Return a folder with an arm, a photograph and a texture, as the packages hold them."""
    rng = np.random.default_rng(0)
    points = rng.normal(0, .05, (60, 3))
    (tmp_path / 'robots' / 'made').mkdir(parents=True)
    (tmp_path / 'robots' / 'made' / 'robot.xml').write_text(
        ARM.format(vertices=' '.join(f'{value:.4f}' for value in points.ravel())))
    for place in ('backgrounds', 'textures'):
        (tmp_path / place).mkdir()
        cv2.imwrite(str(tmp_path / place / 'a.png'), rng.integers(0, 256, (200, 200, 3), np.uint8))
    return tmp_path


@pytest.mark.slow
def test_assets_of_a_folder_are_found_and_shown(folder):
    assets = load_assets(folder)
    assert list(assets.arms) == ['made'] and len(assets.arms['made'][0].solids) == 2
    assert len(assets.textures) == 1
    assert [path.name for path in assets.photographs] == ['a.png']
    made = Studio(48, 36, assets)
    try:
        for number in range(3):
            make_world_episode(1, number, 2, 1, made, HandModel())
    finally:
        made.close()


def test_folders_without_assets_are_one_line(tmp_path):
    with pytest.raises(SimulationError, match='gone: no such folder of assets'):
        load_assets(tmp_path / 'gone')
    with pytest.raises(SimulationError, match='holds no arms, things, textures or backgrounds'):
        load_assets(tmp_path)


@pytest.mark.parametrize(('options', 'text'), [
    (['--preset', 'world'], 'give the number of labelled frames of each attempt with --frames'),
    (['--without-hand', '--tactile'], 'without_hand has no hand whose tactile sensors'),
    (['--looks', '2'], 'looks and assets are of the preset world, not of rig'),
    (['--assets', 'a', '--preset', 'random'], 'are of the preset world, not of random'),
    (['--preset', 'world', '--frames', '2', '--looks', '0'], 'looks 0 .expected'),
])
def test_wrong_options_are_one_line(tmp_path, capsys, options, text):
    assert main([str(tmp_path / 'bag'), *options]) == 1
    err = capsys.readouterr().err
    assert err.count('\n') == 1
    assert re.search(text, err)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_bag_holds_pictures_labels_and_boxes(tmp_path):
    summary, = record(RecordingSettings(attempts=1, frames=2, looks=2, preset=Preset.WORLD,
                                        width=64, height=48), tmp_path / 'bag', jobs=1)
    with open_bag(tmp_path / 'bag') as reader:
        counts = {c.topic: c.msgcount for c in reader.connections}
        boxes = [reader.deserialize(data, c.msgtype) for c, _, data in reader.messages()
                 if c.topic == HAND_BOX_TOPIC]
    assert counts[GROUND_TRUTH_TOPIC] == counts[HAND_BOX_TOPIC] == summary.labelled == 4
    assert all(box.x_offset + box.width <= 64 and box.height > 0 for box in boxes)
