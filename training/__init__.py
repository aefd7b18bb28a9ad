"""Training on top of Keras' own fit(): networks, recipes, augmentation, batches and callbacks."""
