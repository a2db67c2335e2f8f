"""What all tests share: TensorFlow, unless KERAS_BACKEND says otherwise, and no deadline for Hypothesis."""

import os

from hypothesis import settings

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # before anything imports Keras: a user's keras.json is not asked

settings.register_profile("course", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("course")
