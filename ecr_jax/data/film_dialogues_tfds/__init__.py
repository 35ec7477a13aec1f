"""The built-in corpus for `tensorflow_datasets`, without TensorFlow; needs the extra `tfds`."""
