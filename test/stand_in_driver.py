"""
A process that publishes what a driver of the Allegro hand publishes, and moves as it is told.

Names, order and topics are those of the maker's sources; noise, zero errors and a dead zone of
the torques are added. It listens on /stand_in for open, close (on nothing), hold (close on an
object), drop (the object goes, the fingers close), half (close by a third) and numb (the tactile
sensors fall silent, or speak again).
"""

import sys

import numpy as np
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float32MultiArray, Float64MultiArray, String

from grasp_success_detector.ros.process import ros_process

OPENED = np.array([0, .1, .1, .1] * 3 + [1.2, .25, 0., 0.])
CLOSED = np.array([0, 1.3, 1.1, .8] * 3 + [1.35, .4, .75, .9])
HELD = CLOSED - np.array([0, .2, .15, .1] * 3 + [0, 0, .2, .15])
LITTLE = slice(0, 4)    # the fifth finger of V6 moves as the index finger does

SECONDS = .6            # of a close
RATE_HZ = 50.
ZERO, NOISE, DEAD_ZONE = .01, .004, .03

# Our order is index, middle, ring, thumb; each driver publishes in an order of its own.
V4 = [f'ah_joint{f}{j}' for f in (1, 2, 3, 0) for j in range(4)]
V5 = [f'joint_{i}_0' for i in range(16)]
V6 = [f'joint{f}{j}' for f in (1, 2, 3, 0, 4) for j in range(4)]
KINDS = {
    'v4': ('/joint_states', V4), 'plexus': ('/joint_states', V4),
    'v5': ('/allegroHand_0/joint_states', V5), 'v5_sense': ('/allegroHand_0/joint_states', V5),
    'v6': ('/joint_states', V6),
}


def fingers(positions, names):
    return np.r_[positions, positions[LITTLE]] if len(names) == 20 else positions


class StandIn(Node):
    def __init__(self, kind):
        super().__init__(f'stand_in_{kind}')
        topic, self.names = KINDS[kind]
        self.kind, self.rng = kind, np.random.default_rng(0)
        self.states = self.create_publisher(JointState, topic, 10)
        v5 = kind.startswith('v5')
        self.commands = v5 and self.create_publisher(JointState, '/allegroHand_0/joint_cmd', 10)
        self.tactile = {
            'v5_sense': lambda: self.create_publisher(
                Float32MultiArray, '/allegroHand_0/tactile_sensors', 10),
            'v6': lambda: self.create_publisher(
                Float64MultiArray, '/allegro_hand/tactile_pressures', 10),
        }.get(kind, lambda: None)()
        self.numb = False
        self.zero = self.rng.normal(0, ZERO, len(self.names))
        self.position = self.start = self.goal = fingers(OPENED, self.names)
        self.target, self.moved = self.goal, SECONDS
        self.create_subscription(String, '/stand_in', self.told, 10)
        self.create_timer(1 / RATE_HZ, self.publish)

    def told(self, message):
        if message.data == 'numb':
            self.numb = not self.numb
            return
        goals = {'open': (OPENED, OPENED), 'close': (CLOSED, CLOSED), 'hold': (HELD, CLOSED),
                 'drop': (CLOSED, CLOSED), 'half': (OPENED + (CLOSED - OPENED) * .3,) * 2}
        self.goal, self.target = (fingers(goal, self.names) for goal in goals[message.data])
        self.start, self.moved = self.position, 0.
        if self.commands:
            self.commands.publish(JointState(name=self.names, position=self.target.tolist()))

    def publish(self):
        self.moved = min(self.moved + 1 / RATE_HZ, SECONDS)
        self.position = self.start + (self.goal - self.start) * self.moved / SECONDS
        measured = self.position + self.zero + self.rng.normal(0, NOISE, len(self.names))
        torque = 2 * (self.target - self.position)
        torque[np.abs(torque) < DEAD_ZONE] = 0.
        # An arm on the same topic, and an order that is not ours, as ros2_control has them.
        rows = sorted(zip(self.names, measured.tolist(), torque.tolist(), strict=True))
        message = JointState(name=[row[0] for row in rows], position=[row[1] for row in rows])
        message.effort = [] if self.kind == 'v5_sense' else [row[2] for row in rows]
        message.header.stamp = self.get_clock().now().to_msg()
        self.states.publish(message)
        if self.kind in ('v4', 'plexus', 'v6'):
            self.states.publish(JointState(name=['iiwa_joint_1'], position=[.3]))
        if self.tactile and not self.numb:
            # Not before the fingers have arrived: until then the hand may still count as open.
            pressed = float(self.moved == SECONDS and (self.target - self.position).sum() > 1)
            kind = Float32MultiArray if self.kind == 'v5_sense' else Float64MultiArray
            readings = 100. * pressed + self.rng.normal(30., 1., 16)
            self.tactile.publish(kind(data=readings.tolist()))


if __name__ == '__main__':
    with ros_process(sys.argv):
        rclpy.spin(StandIn(sys.argv[1]))
