"""
A stand-in for launch and launch_ros, which are in no Python registry: it runs no process.

Any class of theirs is one that keeps what it was made with. :func:`described` walks through a
launch file's description as launch does: arguments, settings, functions, included files.
"""

import runpy
import sys
from types import ModuleType, SimpleNamespace

MODULES = ('launch', 'launch.actions', 'launch.conditions', 'launch.event_handlers',
           'launch.events', 'launch.launch_description_sources', 'launch.substitutions',
           'launch.utilities',
           'launch_ros', 'launch_ros.actions', 'launch_ros.descriptions', 'launch_ros.events',
           'launch_ros.parameter_descriptions', 'launch_ros.substitutions')


class Made:
    """
    Something of launch, kept as it was made.

    :ivar given: the arguments by position.
    :ivar named: the arguments by name.
    """

    def __init__(self, *given, **named):
        self.given, self.named = given, named

    def perform(self, context):
        """Return the value of a LaunchConfiguration."""
        name, = self.given
        return context.launch_configurations[name]


class StandIn(ModuleType):
    """A module of launch: it has every class that is asked of it."""

    __path__ = ()

    def __getattr__(self, name):
        if name.startswith('__'):
            raise AttributeError(name)
        made = type(name, (Made,), {'__module__': self.__name__})
        setattr(self, name, made)
        return made


def install(monkeypatch):
    """Let launch files import the stand-ins."""
    for name in MODULES:
        monkeypatch.setitem(sys.modules, name, StandIn(name))


def described(path, **arguments):
    """
    Return what a launch file with these arguments consists of, in order, as :class:`Made`.

    :returns: the actions, and (default, description) of each argument by name.
    """
    context = SimpleNamespace(launch_configurations=dict(arguments), is_shutdown=False)
    actions, declared = [], {}
    _walk(runpy.run_path(str(path))['generate_launch_description']().given[0], context, actions,
          declared)
    return actions, declared


def _walk(entities, context, actions, declared):
    for entity in entities or ():
        kind = type(entity).__name__
        if kind == 'DeclareLaunchArgument':
            name, default = entity.given[0], entity.named.get('default_value')
            declared[name] = default, entity.named['description']
            if name not in context.launch_configurations:
                assert default is not None, f'{name} must be given'
                context.launch_configurations[name] = default
        elif kind == 'SetLaunchConfiguration':
            name, value = entity.given
            context.launch_configurations[name] = value
        elif kind == 'OpaqueFunction':
            _walk(entity.named['function'](context, *entity.named.get('args', ())),
                  context, actions, declared)
        elif kind == 'IncludeLaunchDescription':
            path, = entity.given[0].given
            _walk(runpy.run_path(str(path))['generate_launch_description']().given[0], context,
                  actions, declared)
        else:
            actions.append(entity)
