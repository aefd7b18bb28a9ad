"""What two scripts or more share; nothing here imports a script, and nothing imports Keras until it is needed."""
