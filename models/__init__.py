"""Everything Keras: architectures and the engine that trains them. Importing this package imports neither."""
