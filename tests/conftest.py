"""What all tests share: TensorFlow, unless KERAS_BACKEND says otherwise, and no deadline for Hypothesis."""

import os

from hypothesis import settings

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # before anything imports Keras: a user's keras.json is not asked
if os.environ["KERAS_BACKEND"] == "jax":  # which spends most of the tests' time on compiling thoroughly what runs once
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")

settings.register_profile("course", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("course")
