"""Many translations at once, those of similar length together."""

import keras
import pytest
from layer_checks import randomize

from course_lib import BytePairTokenizer
from course_lib.models.seq2seq import Seq2Seq, Seq2SeqConfig
from course_lib.models.seq2seq_lm import Seq2SeqLM


@pytest.mark.one_backend
def test_translations_come_in_the_order_of_the_sources():
    keras.utils.set_random_seed(1)
    tokenizer = BytePairTokenizer.train(["a longer text", "c d", "three two one"], 262)
    config = Seq2SeqConfig(tokenizer.vocabulary_size, 1, 2, 16, dropout=0.0, norm_first=True)
    model = Seq2SeqLM(Seq2Seq(config, tokenizer))
    model.build()
    randomize(model)
    sources = ["a longer text", "x", "c d"]
    expected = [model.generate(source, 8) for source in sources]
    assert len(set(expected)) == 3
    assert model.translate(sources, 8, batch_size=2) == expected
