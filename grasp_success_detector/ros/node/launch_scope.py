"""Which launch arguments a launch file was given itself, and not by what ran before it."""

from collections.abc import Collection
from importlib import import_module
import inspect
from typing import Any


def given_arguments() -> frozenset[str] | None:
    """
    Return the names of the arguments that the include which loads a launch file gives it.

    In launch, all files share one set of values: what a driver's launch file declared, such as
    ``use_sim_time:=true``, reaches each file that is included later as if it had been given. The
    include that loads a file knows its arguments, but does not pass them on: it is found on the
    stack. To be called from ``generate_launch_description``.

    :returns: None if no include loads the file.
    """
    launch, utilities = import_module('launch'), import_module('launch.utilities')
    include_type = import_module('launch.actions').IncludeLaunchDescription
    frame = inspect.currentframe()
    while frame is not None:
        # Also where an outer file looks for the arguments that can be given: it is loaded once.
        if isinstance(include := frame.f_locals.get('self'), include_type):
            return frozenset(
                utilities.perform_substitutions(
                    launch.LaunchContext(), utilities.normalize_to_list_of_substitutions(name))
                for name, _ in include.launch_arguments)
        frame = frame.f_back
    return None


def forget_others(context: Any, names: Collection[str], given: frozenset[str] | None) -> None:
    """
    Remove the values of those of ``names`` that were not given; their defaults come then.

    :param context: the LaunchContext, with the values that hold within the launch file.
    """
    if given is not None:
        for name in set(names) - given:
            context.launch_configurations.pop(name, None)
