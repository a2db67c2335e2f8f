"""What the backbones of language models share: a stack of blocks under a causal mask, and its cache.

Shapes: B batch, T length, S slots of the cache, N heads, K key–value heads, H width of one head, D model width.
"""

from keras import ops

from course_lib.layers.positions import token_positions
from course_lib.models.base import Backbone
from course_lib.validation import unpack


class Decoder(Backbone):
    """A backbone that reads tokens from left to right.

    A subclass makes `decoder`, a `TransformerStack`, and defines `embed`. Its config has `key_value_shape`, (K, H).

    Args:
        config: an instance of `config_class`.
        tokenizer: the tokenizer whose ids the model reads, or None.
        **kwargs: arguments of `keras.Model`, such as `name` and `dtype`.
    """

    def embed(self, token_ids, positions, training=None):
        """Turns tokens into what the first block reads.

        Args:
            token_ids: integers (B, T).
            positions: integers (T,) or (B, T).
            training: whether to apply dropout.

        Returns:
            Floats (B, T, D).
        """
        raise NotImplementedError

    def empty_cache(self, batch_size, slots):
        """Makes a cache that holds nothing yet.

        Args:
            batch_size: B.
            slots: S, the number of positions that fit into it.

        Returns:
            A tuple with one pair of keys and values per block, each zeros (B, S, K, H).
        """
        zeros = ops.zeros((batch_size, slots, *self.config.key_value_shape), self.compute_dtype)
        return tuple((zeros, zeros) for _ in range(self.config.num_layers))

    def call(
        self,
        inputs,
        cache=None,
        position=0,
        return_hidden_states=False,
        return_attention=False,
        tap=None,
        training=None,
    ):
        """Reads tokens. Each token sees itself and the tokens before it.

        Args:
            inputs: what the tokenizer returns: a dict of integers (B, T) with `token_ids` and, optionally,
                `padding_mask` (1 = a real token; 1 by default); or the token ids alone. With a cache, `padding_mask` is
                (B, S) and says which slots hold tokens, those of this call included.
            cache: the keys and values of earlier tokens, from `empty_cache` or an earlier call.
            position: slot of the cache at which the T tokens are written, an integer or a scalar tensor.
            return_hidden_states: whether to return `hidden_states`.
            return_attention: whether to return `attention`.
            tap: a function that sees and may replace activations; see `course_lib.layers.taps`.
            training: whether to apply dropout.

        Returns:
            A dict of floats: `sequence_output` (B, T, D). On request, also `hidden_states`, a tuple of the embeddings
            and each block's output, each (B, T, D), and `attention`, a tuple of each block's weights (B, N, T, S),
            where S is T without a cache. With a cache, also `cache`, the updated one.

        Raises:
            ValueError: if the inputs have unexpected names or shapes, or T exceeds `max_sequence_length`.
        """
        slots = None if cache is None else cache[0][0].shape[1]
        token_ids, padding_mask = unpack(inputs, *self.input_names[1:], slots=slots)
        length = ops.shape(token_ids)[1]
        if padding_mask is None:
            positions = ops.arange(length) + position
        else:
            positions = token_positions(padding_mask, None if cache is None else length, position)
        return self.decoder(
            self.embed(token_ids, positions, training=training),  # (B, T, D)
            padding_mask=padding_mask,
            use_causal_mask=True,
            cache=cache,
            position=None if cache is None else position,
            positions=positions,
            return_hidden_states=return_hidden_states,
            return_attention=return_attention,
            tap=tap,
            training=training,
        )
