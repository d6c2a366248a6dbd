"""Sources of training and test images. Only `tfrecords` imports TensorFlow."""
