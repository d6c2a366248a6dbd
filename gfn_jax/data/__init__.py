"""Sources of training and test images. TensorFlow is imported by `tfrecords` alone."""
