"""What several scripts share; nothing here imports a script, nor Keras until it is needed."""
