"""What all tests share: TensorFlow, unless KERAS_BACKEND says otherwise, and no deadline for Hypothesis."""

import os

from hypothesis import settings

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # before anything imports Keras: a user's keras.json is not asked
if os.environ["KERAS_BACKEND"] == "jax":  # which spends most of the tests' time on compiling thoroughly what runs once
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")

settings.register_profile("course", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("course")

SLOW = (  # by folder or file; `make quick` leaves them out
    "tests/checkpoints/test_altered.py",
    "tests/experiments/",
    "tests/models/test_export.py",
    "tests/models/test_invariants.py",
    "tests/models/test_old_files.py",
    "tests/models/test_raw_text.py",
    "tests/test_accelerator.py",
    "tests/test_readme.py",
    "tests/test_wheel.py",
    "tests/training/test_pretrain.py",
)
SLOW_CHECKS = ("low_precision", "saved_and_loaded", "compiled_by_xla", "quantised", "implicit_masks")  # of LayerChecks


def pytest_collection_modifyitems(items):
    """Marks what takes long."""
    for item in items:
        if item.nodeid.startswith(SLOW) or any(check in item.nodeid for check in SLOW_CHECKS):
            item.add_marker("slow")
