"""Sources of training and test images. Only `tfrecords` imports TensorFlow."""

import os

# Before any import of TensorFlow: no log lines but errors. Of oneDNN nothing is used.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
