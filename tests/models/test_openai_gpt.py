"""The first GPT: what of GPT-2 it has otherwise, and the texts that it continues."""

import pathlib

import numpy as np
import pytest
import tiny_models
from layer_checks import TOKENS, same, to_numpy

from course_lib import GPT2, GPT2Config, OpenAIGPT, OpenAIGPTCausalLM, OpenAIGPTConfig

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
TEXTS = ["The cat sat on my mat, didn't it?", "a dog", "Naïve 狗 <unk>☕ oncé"]
ROWS = {name: TOKENS[name][:2] for name in ("token_ids", "padding_mask")}


def test_the_norms_stand_after_the_sublayers():
    model = tiny_models.openai_gpt(num_layers=3, hidden_dim=32, initializer_range=0.1)
    model.build()
    assert model.decoder.norm is None
    outputs = model(ROWS, return_hidden_states=True)
    same(outputs["hidden_states"][-1], outputs["sequence_output"], tolerance=0)
    for state in outputs["hidden_states"][1:]:
        np.testing.assert_allclose(to_numpy(state).mean(-1), 0, atol=1e-5)
        np.testing.assert_allclose(to_numpy(state).std(-1), 1, atol=1e-3)
    kernels = [to_numpy(weight) for weight in model.trainable_weights if weight.path.endswith("kernel")]
    assert len(kernels) == 18 and all(abs(kernel.std() / 0.1 - 1) < 0.13 for kernel in kernels)


@pytest.mark.one_backend
def test_defaults_are_those_of_the_first_gpt():
    config = OpenAIGPTConfig(40478, 12, 12, 768)
    assert (config.max_sequence_length, config.end_token_id, config.intermediate_dim) == (512, -1, 3072)
    assert config != GPT2Config(40478, 12, 12, 768, max_sequence_length=512, end_token_id=-1)
    assert not isinstance(GPT2(GPT2Config(20, 1, 2, 8)), OpenAIGPT)


@pytest.mark.one_backend
def test_texts_are_continued_in_one_piece_and_in_several():
    lm = OpenAIGPTCausalLM.from_preset(GOLDEN / "openai-gpt")
    with np.load(GOLDEN / "openai-gpt" / "expected.npz") as expected:
        greedy = expected["greedy"].tolist()
    prompt = lm.tokenizer.encode(TEXTS[0])
    text = lm.generate(TEXTS[0], 8)
    assert lm.tokenizer.decode(prompt) + text == lm.tokenizer.decode(prompt + greedy)
    assert "".join(lm.generate(TEXTS[0], 8, stream=True)) == text
    assert lm.generate(TEXTS, 8) == [lm.generate(each, 8) for each in TEXTS]
    assert lm.generate(prompt, 8) == greedy and len(greedy) == 8, "no token ends a text"
    with pytest.raises(ValueError, match="prompt 0 has none") as error:
        lm.generate("")
    assert "endoftext" not in str(error.value), "which this model has not"
