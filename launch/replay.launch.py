"""
Play a bag to detectors: ``ros2 launch grasp_success_detector replay.launch.py bag:=recording``.

Topic and transport of the camera are read from the bag unless they are given. All arguments of
detector.launch.py work here too. The launch ends when the bag has been played.
"""

from pathlib import Path
import runpy
import shlex

from ament_index_python.packages import get_packages_with_prefixes
from launch import Event, LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    SetLaunchConfiguration,
    Shutdown,
    TimerAction,
)
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from grasp_success_detector.errors import ConfigError
from grasp_success_detector.files import checkpoint_path, expanded
from grasp_success_detector.ros.node.launch_arguments import (
    CameraArgument,
    read_cameras,
    recorded_cameras,
)
from grasp_success_detector.ros.tools.child_process import START_TIMEOUT_S

#: Time for the verdict on the last frame and for the recorder to write it, seconds.
LAST_VERDICT_S = 1.

#: Topics of every detector that are recorded: all but the overlay.
VERDICTS = ('grasp_success', 'grasp_success/confidence', 'grasp_success/stamped')

PLAYERS = {'play_bag': 'grasp_success_detector', 'rosbag2': 'ros2bag'}

#: name -> (default, description); an argument without a default must be given.
ARGUMENTS = {
    'bag': (None, 'The bag: a rosbag2 folder, .mcap or .db3 file.'),
    'player': ('play_bag', (
        'play_bag: of this package, which waits for the detector; rosbag2: `ros2 bag play`, where '
        'it is installed.')),
    'player_arguments': ('', (
        'Further ones for the player, such as "--rate 0.5 --loop"; for rosbag2 --delay SECONDS '
        'belongs here, until the detector has loaded its network.')),
    'record': ('', (
        'Bag to write with the verdicts and diagnostics, by `ros2 bag record`, where it is '
        'installed. Empty: none.')),
}


def given(context: LaunchContext, name: str) -> str:
    """Return a launch argument of this file or of detector.launch.py; '' if not given."""
    return context.launch_configurations.get(name, '')


def full_name(context: LaunchContext, camera: CameraArgument, name: str) -> str:
    """Return the absolute name of a topic of a camera's detector."""
    parts = given(context, 'namespace').strip('/'), camera.name, name
    return '/'.join(('', *filter(None, parts)))


def replay(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return player and recorder, and settings for the detectors that are included next."""
    bag, player = str(expanded(given(context, 'bag'))), given(context, 'player')
    require_tool(player, 'player:=play_bag plays bags as well')
    cameras = read_cameras(given(context, 'cameras')) if given(context, 'cameras') else (
        CameraArgument(topic=given(context, 'image_topic')),)
    topics = tuple(camera.topic or full_name(context, camera, 'image')
                   for camera in cameras if camera.name or camera.topic)
    recorded = recorded_cameras(bag, topics, given(context, 'image_transport'))
    # Without respawn, so that a detector that cannot be used ends the replay.
    settings = {'image_transport': recorded.transport, 'respawn': 'false'}
    if checkpoint := given(context, 'checkpoint'):
        # Looked up here: the error of a node would stand between the lines of the player.
        settings['checkpoint'] = str(checkpoint_path(checkpoint))
    if not given(context, 'cameras'):
        settings['image_topic'] = recorded.topics[0]
    further = shlex.split(given(context, 'player_arguments'))
    if given(context, 'use_sim_time').lower() == 'true' and '--clock' not in further:
        further.append('--clock')
    entities = [
        *(SetLaunchConfiguration(name, value) for name, value in settings.items()),
        play(bag, player, recorded.recorded, further),
    ]
    if record := given(context, 'record'):
        output = str(expanded(record))
        require_tool('rosbag2', 'leave record out')
        if Path(output).exists():
            raise ConfigError(f'record: {output} is there already; expected a new folder')
        names = [full_name(context, camera, verdict)
                 for camera in cameras for verdict in VERDICTS]
        entities.append(ExecuteProcess(
            cmd=['ros2', 'bag', 'record', '-o', output, *names, '/diagnostics'],
            output='screen'))
    return entities


def require_tool(player: str, otherwise: str) -> None:
    """Raise a ConfigError if a player is not installed, or is not one of PLAYERS."""
    if player not in PLAYERS:
        raise ConfigError(f'player: {player!r}; expected one of {", ".join(PLAYERS)}')
    if PLAYERS[player] not in get_packages_with_prefixes():
        raise ConfigError(f'`ros2 bag` is not installed here (no package {PLAYERS[player]}); '
                          f'{otherwise}')


def play(bag: str, player: str, topics: tuple[str, ...],
         further: list[str]) -> LaunchDescriptionEntity:
    """Return the player; play_bag waits for subscribers of ``topics``, topics of the bag."""
    if player == 'rosbag2':
        return ExecuteProcess(cmd=['ros2', 'bag', 'play', bag, *further], output='screen')
    return Node(
        package='grasp_success_detector', executable='play_bag', output='screen',
        arguments=[bag, '--wait', f'{START_TIMEOUT_S:.0f}', '--wait-for', *topics, *further])


def end(event: Event, context: LaunchContext) -> LaunchDescriptionEntity | None:
    """Shut down when a process has ended, usually the player at the end of the bag."""
    if context.is_shutdown:
        return None
    return TimerAction(period=LAST_VERDICT_S, actions=[
        Shutdown(reason=f'{event.process_name} has ended')])


def generate_launch_description() -> LaunchDescription:
    detector = str(Path(__file__).with_name('detector.launch.py'))
    # It takes only what it is given.
    taken = runpy.run_path(detector)['ARGUMENTS']
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value=default, description=description)
          for name, (default, description) in ARGUMENTS.items()),
        RegisterEventHandler(OnProcessExit(on_exit=end)),
        OpaqueFunction(function=replay),
        IncludeLaunchDescription(PythonLaunchDescriptionSource(detector), launch_arguments=[
            (name, LaunchConfiguration(name, default=default))
            for name, (default, _) in taken.items()]),
    ])
