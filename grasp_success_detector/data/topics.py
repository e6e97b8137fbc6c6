"""Topics of the bags that the simulation records and that the sample bag holds."""

#: ``sensor_msgs/Image`` of the camera that watches the hand.
IMAGE_TOPIC = '/camera/image_raw'

#: The same camera as ``sensor_msgs/CompressedImage`` (jpeg), named as image_transport does.
COMPRESSED_TOPIC = '/camera/image_raw/compressed'

#: ``sensor_msgs/JointState`` of the 16 joints.
JOINT_STATES_TOPIC = '/allegroHand_0/joint_states'

#: ``std_msgs/Bool``, one for each labelled frame; its bag time is the frame's header stamp in ns.
#: Frames around the moment of lift-off have none.
GROUND_TRUTH_TOPIC = '/ground_truth'

#: ``std_msgs/String`` with JSON, at the begin and the end of every attempt:
#: ``{"attempt": 0, "event": "begin"|"end", "seed": ..., "object": ..., "success": bool}``,
#: where ``success`` comes with ``end`` only.
ATTEMPT_TOPIC = '/attempt'
