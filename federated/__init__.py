"""The method: federated learning as linear algebra over flat vectors, with no server and no TensorFlow."""
