# The detector's node, and with --target training the commands that label, train and evaluate.
#
#   docker build -t grasp_success_detector .
#   docker run --rm --network host --ipc host grasp_success_detector image_topic:=/camera/image_raw
#   docker build --target training -t grasp_success_detector:training .
#   docker run --rm -it -v "$PWD:/work" grasp_success_detector:training train_classifier --help
ARG ROS_DISTRO=jazzy

FROM ros:${ROS_DISTRO} AS training
# Python packages of pip lie beside Ubuntu's, not among them, and ROS is not needed here.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libegl1 libgl1 python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY . /src
RUN python3 -m venv /opt/grasp \
    && /opt/grasp/bin/pip install --no-cache-dir -c /src/constraints.txt \
        '/src[bags,label,train,sim,dask,openvino,export]' \
    && rm -rf /src
ENV PATH=/opt/grasp/bin:$PATH MUJOCO_GL=egl
WORKDIR /work
CMD ["train_classifier", "--help"]

FROM ros:${ROS_DISTRO} AS node
WORKDIR /ws
# Dependencies first: they change less often than the code.
COPY package.xml src/grasp_success_detector/
RUN apt-get update \
    && rosdep install --from-paths src --ignore-src -y --dependency-types=exec \
    && rm -rf /var/lib/apt/lists/*
COPY . src/grasp_success_detector/
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN source "/opt/ros/$ROS_DISTRO/setup.bash" \
    && colcon build --packages-select grasp_success_detector
ENTRYPOINT ["/bin/bash", "-c", "source /ws/install/setup.bash && exec ros2 launch grasp_success_detector detector.launch.py \"$@\"", "detector"]
