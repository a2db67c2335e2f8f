"""How short held-out texts become: each system on texts whose answer is known."""

import numpy as np
import pytest

from course_lib import assets
from course_lib.data.corpus import Documents
from course_lib.experiments import compression
from course_lib.experiments.compression import Compression, gzip_bits, xz_bits
from course_lib.metrics.perplexity import num_bytes
from course_lib.models.gpt2 import GPT2, GPT2CausalLM, GPT2Config
from course_lib.text.byte_pair import BytePairTokenizer

pytestmark = pytest.mark.one_backend

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, 5000, dtype="uint8").tobytes()  # which nothing makes shorter


def test_what_is_known_costs_next_to_nothing():
    assert gzip_bits(NOISE) > 8 * 5000 and xz_bits([NOISE]) > 8 * 5000
    assert gzip_bits(NOISE, NOISE) < 8 * 200
    assert xz_bits([NOISE, NOISE]) - xz_bits([NOISE]) < 8 * 200


@pytest.fixture
def small(tmp_path, monkeypatch):
    """An experiment on words at random, with an untrained model, and nothing done yet."""
    words = ["a", "bad", "cut", "dull", "end"]
    texts = [" ".join(RNG.choice(words, p=[0.4, 0.3, 0.1, 0.1, 0.1], size=12)) for _ in range(110)]
    small = Compression(preset="tiny", vocabulary_size=270, orders=(1, 2), apart=4, stride=8)
    small.__dict__["documents"] = Documents(texts[:80], texts[80:])
    config = GPT2Config(270, num_layers=1, num_heads=1, hidden_dim=8, max_sequence_length=16)
    model = GPT2CausalLM(GPT2(config, BytePairTokenizer.train(texts[:80], 270)))
    model.save_to_preset(tmp_path / "tiny")
    monkeypatch.setattr(compression.recipes, "resolve_start", lambda name: tmp_path / name)
    monkeypatch.setattr(assets, "cache_folder", lambda: tmp_path)
    return small


def test_every_system_has_its_result(small, tmp_path):
    results = small.run()
    assert [result["system"] for result in results] == [*small.compressors(), *["Kneser-Ney"] * 2, "tiny"]
    bits = {result["system"]: result["bits_per_byte"] for result in results}
    assert bits["gzip after training text"] < bits["gzip"] and bits["xz after training text"] < bits["xz"]
    first, second, model = results[-3:]
    words = -np.sum([p * np.log2(p) for p in (0.4, 0.3, 0.1, 0.1, 0.1)]) * 12 * 30
    assert words / num_bytes(small.documents.held_out) < first["bits_per_byte"] < bits["gzip after training text"]
    assert first["tokens"] == second["tokens"] == model["tokens"]
    even = np.log2(270) * model["tokens"] / num_bytes(small.documents.held_out)
    assert model["bits_per_byte"] == pytest.approx(even, rel=0.02)  # it has learned nothing
    assert abs(first["apart_bits_per_byte"] - first["bits_per_byte"]) < 0.2 and len(second["discounts"]) == 2


def test_a_model_with_another_tokenizer_is_refused(small):
    del small.__dict__["documents"]
    small.__dict__["documents"] = Documents(["zebras and zebras"] * 8, ["zebra"])
    with pytest.raises(ValueError, match="it has another"):
        small.predicted()


def test_all_but_the_model_is_there_without_it(small, tmp_path):
    (tmp_path / "tiny" / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError):
        small.run()
    assert "Kneser-Ney, order 2" in next((tmp_path / "experiments").glob("compression-*.json")).read_text()
