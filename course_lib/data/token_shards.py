"""A tokenized corpus on disk, in shards: for text that does not fit into memory, and for several hosts.

A folder of shards has `index.json`, the tokenizer in `tokenizer/`, `counts.npy` (how often each token occurs), and for
each part of the corpus, "train" and "held_out", the same number of shards. A shard holds token ids and nothing else:
documents one after the other, each followed by the end token, as uint16, or as uint32 if the vocabulary has more than
65,536 tokens. `course_lib.training.shards` writes such a folder.

Shapes: B batch, T length, V vocabulary.
"""

import functools
import hashlib
import json
import math
import os
import pathlib
import tempfile
import weakref

import numpy as np

from course_lib.checkpoints.files import read_json

FORMAT = "token shards 1"
PARTS = ("train", "held_out")
_AGAIN = "Copy it again, or write the shards again, into a new folder."


def part_of(text, held_out):
    """Decides by the SHA-256 of a document which part of the corpus it belongs to, so copies are in the same part.

    Args:
        text: a string.
        held_out: one document in about `held_out` is held out.

    Returns:
        "train" or "held_out".
    """
    digest = hashlib.sha256(text.encode()).digest()
    return "train" if int.from_bytes(digest[:8], "big") % held_out else "held_out"


def fingerprint(tokenizer):
    """Computes the SHA-256 of what decides a tokenizer's ids: the files that it saves.

    Args:
        tokenizer: a tokenizer of `course_lib.text`.

    Returns:
        64 hexadecimal digits.
    """
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(folder)
        return digest_of_files(folder)


def digest_of_files(folder):
    """Computes the SHA-256 of the names and contents of the text files in a folder.

    Args:
        folder: path of the folder.

    Returns:
        64 hexadecimal digits.
    """
    content = {file.name: file.read_text(encoding="utf-8") for file in sorted(pathlib.Path(folder).glob("*"))}
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


class Shard:
    """A file of token ids, read in places.

    Args:
        path: of the file.
        dtype: of the ids.
        entry: what the index says about the shard: a dict with `documents`, `tokens` and `sha256`.

    Attributes:
        path: of the file.
        documents: number of documents.
        tokens: number of tokens, end tokens included.
        sha256: of the file.
    """

    def __init__(self, path, dtype, entry):
        self.path, self._dtype, self._descriptor = path, np.dtype(dtype).newbyteorder("<"), None
        self.documents, self.tokens, self.sha256 = entry["documents"], entry["tokens"], entry["sha256"]

    def open(self):
        """Opens the file, unless that has been done before.

        Returns:
            The file descriptor. It is closed when nobody uses the shard any more.

        Raises:
            ValueError: if the file has another size than the index says.
            FileNotFoundError: if it is not there.
        """
        if self._descriptor is None:
            try:
                descriptor = os.open(self.path, os.O_RDONLY)
            except FileNotFoundError as error:
                raise FileNotFoundError(
                    f"Expected the shard {self.path}, which is in the index; it is missing. {_AGAIN}"
                ) from error
            weakref.finalize(self, os.close, descriptor)
            self._check_size(os.fstat(descriptor).st_size)
            self._descriptor = descriptor
        return self._descriptor

    def _check_size(self, found):
        expected = self.tokens * self._dtype.itemsize
        if found != expected:
            raise ValueError(f"Expected {expected} bytes in {self.path}, as the index says; it has {found}. {_AGAIN}")

    def read(self, start, count):
        """Reads ids. This is no memory map: if the file is cut meanwhile, a map would end the process by a signal.

        Args:
            start: number of the first token.
            count: how many tokens.

        Returns:
            Unsigned integers (count,).

        Raises:
            ValueError: if the file has another size than the index says.
            FileNotFoundError: if it is not there.
        """
        size = self._dtype.itemsize
        data = os.pread(self.open(), count * size, start * size)
        if len(data) < count * size:
            self._check_size(self.path.stat().st_size)
        return np.frombuffer(data, self._dtype)

    def check(self):
        """Compares the file with the index, byte by byte.

        Raises:
            ValueError: if its size or its SHA-256 is another one.
            FileNotFoundError: if it is not there.
        """
        self.open()
        with open(self.path, "rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != self.sha256:
            raise ValueError(f"Expected the SHA-256 {self.sha256} of {self.path}; it is {found}. {_AGAIN}")


class TokenShards:
    """A folder of shards. Only the index is read at first, so other hosts' shards need not be there.

    Args:
        folder: path of the folder.

    Raises:
        ValueError: if the index is missing, broken or of another kind.

    Attributes:
        folder: the path.
        sha256: SHA-256 of the index, which has those of all shards: 64 hexadecimal digits.
        shards: dict from part ("train" or "held_out") to a list of `Shard`.
        vocabulary_size: V.
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        path = self.folder / "index.json"
        if not path.is_file():
            raise ValueError(
                f"Expected {path}; it is missing. It is written last, so the shards may be incomplete. Write them "
                f"again."
            )
        index = read_json(path)
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        try:
            if index["format"] != FORMAT:
                raise KeyError("format")
            self._tokenizer, self.vocabulary_size = index["tokenizer"], index["vocabulary_size"]
            self.shards = {
                part: [Shard(self.folder / entry["file"], index["dtype"], entry) for entry in index["parts"][part]]
                for part in PARTS
            }
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"Expected an index of {FORMAT!r} in {path}; {error} is missing or not as expected."
            ) from error

    def __repr__(self):
        train, held_out = (sum(shard.documents for shard in self.shards[part]) for part in PARTS)
        return f"{train:,} documents in {len(self.shards['train'])} shards, {held_out:,} more held out"

    def tokenizer(self, tokenizer_class):
        """Loads the tokenizer that the shards were written with.

        Args:
            tokenizer_class: the class that is needed.

        Returns:
            An instance of that class.

        Raises:
            ValueError: if the shards were written with another class, or the tokenizer's files have changed.
        """
        folder, written_with = self.folder / "tokenizer", self._tokenizer["class"]
        if written_with != tokenizer_class.__name__:
            raise ValueError(
                f"Expected shards of a {tokenizer_class.__name__}, as the recipe's objective needs; those in "
                f"{self.folder} are of a {written_with}. Write shards with this recipe."
            )
        if digest_of_files(folder) != self._tokenizer["sha256"]:
            raise ValueError(
                f"Expected the tokenizer that wrote the shards in {folder}; its files have changed. {_AGAIN}"
            )
        return tokenizer_class.from_preset(folder)

    def counts(self):
        """Reads how often each token occurs in the training part, end tokens included.

        Returns:
            int64 (V,).

        Raises:
            ValueError: if the file is missing or broken, or does not fit the index.
        """
        path, expected = self.folder / "counts.npy", sum(shard.tokens for shard in self.shards["train"])
        try:
            counts = np.load(path)
            found = int(counts.sum())
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(
                f"Expected the counts of tokens in {path}; it is missing or broken: {error}. {_AGAIN}"
            ) from error
        if found != expected or len(counts) != self.vocabulary_size:
            raise ValueError(
                f"Expected counts of {expected} tokens in {path}, as the index says; got {found}. {_AGAIN}"
            )
        return counts

    def check(self):
        """Reads everything and compares it with the index.

        Raises:
            ValueError: if something is missing or has changed. It names all of it.
        """
        wrong = []
        for check in [self.counts, *(shard.check for part in PARTS for shard in self.shards[part])]:
            try:
                check()
            except (ValueError, OSError) as error:
                wrong.append(str(error))
        if wrong:
            raise ValueError("\n".join(wrong))


class _Rows:
    """The rows of some shards, by number."""

    def __init__(self, shards, length):
        self._shards, self._length = shards, length
        self._ends = np.cumsum([(shard.tokens - 1) // length for shard in shards])
        for shard in shards:
            shard.open()

    def __len__(self):
        return int(self._ends[-1])

    def __getitem__(self, row):
        shard = int(np.searchsorted(self._ends, row, side="right"))
        row -= int(self._ends[shard - 1]) if shard else 0
        return self._shards[shard].read(row * self._length, self._length + 1)


class ShardedStream:
    """Cuts the documents in shards into full rows, and draws batches from them, as `TokenStream` does in memory.

    A row has T + 1 tokens: its last token is also the first token of the next row in the shard. So each token of a
    shard is predicted once per epoch, except the first one and those at the end that do not fill a row.

    The shards are divided evenly into groups, as many as there can be if each group gives the same number of rows to
    each batch: the greatest common divisor of the number of shards and B. Each group's rows are shuffled anew in each
    of its epochs, by `grain`, which computes where a row is and keeps no list. A slice of a batch opens only the groups
    that its rows come from. So if h hosts divide both numbers, each needs one h-th of the shards.

    Args:
        shards: `TokenShards`.
        part: "train" or "held_out".
        length: T.

    Raises:
        ValueError: if the length is not positive, or a shard does not fill a row.
        ImportError: if `grain` is not installed.

    Attributes:
        num_tokens: number of tokens, end tokens included.
        num_rows: number of rows in an epoch.
    """

    def __init__(self, shards, part, length):
        if length < 1:
            raise ValueError(f"Expected a length of at least 1; got {length}.")
        try:
            import grain
        except ImportError as error:
            raise ImportError("Reading shards needs a package: pip install 'grain>=0.2.18'") from error
        self.length, self._all, self._shards, self._dataset = length, shards, shards.shards[part], grain.MapDataset
        short = [shard for shard in self._shards if shard.tokens <= length]
        if short:
            raise ValueError(
                f"Expected shards that fill a row of {length} tokens and one more; {short[0].path} has "
                f"{short[0].tokens}. Write fewer shards, or hold out more documents."
            )
        self.num_tokens = sum(shard.tokens for shard in self._shards)
        self.num_rows = sum((shard.tokens - 1) // length for shard in self._shards)
        self._group = functools.cache(self._rows_of_group)

    def counts(self, vocabulary_size):
        """Reads how often each token occurs in the training part, end tokens included.

        Args:
            vocabulary_size: V.

        Returns:
            int64 (V,).

        Raises:
            ValueError: if the file of counts is missing or broken, or does not fit the index or V.
        """
        counts = self._all.counts()
        if len(counts) != vocabulary_size:
            raise ValueError(f"Expected counts of {vocabulary_size} tokens; got those of {len(counts)}.")
        return counts

    def _rows_of_group(self, seed, group, groups):
        """Makes the endless sequence of the rows of a group."""
        size = len(self._shards) // groups
        rows = _Rows(self._shards[group * size : (group + 1) * size], self.length)
        # Neighbours in the corpus are at the same place of different shards, so each group needs an order of its own.
        (own_seed,) = np.random.SeedSequence((seed, group)).generate_state(1)
        return self._dataset.source(rows).seed(int(own_seed)).shuffle().repeat()

    def draw(self, count, seed, step, rows=slice(None)):
        """Returns the rows of a step. They depend only on the shards, a seed and the step.

        Args:
            count: B, the number of rows.
            seed: an integer of 0 or more.
            step: an integer of 0 or more. Each step continues after the previous one, and from one epoch into the next.
            rows: a slice of the B rows, if not all of them are needed. Only their shards are opened.

        Returns:
            int32 (B, T + 1), or the rows of the slice alone.

        Raises:
            ValueError: if a shard is cut.
            FileNotFoundError: if a shard is missing.
        """
        groups = math.gcd(len(self._shards), count)
        share = count // groups
        places = (divmod(row, share) for row in range(count)[rows])
        return np.stack(
            [self._group(seed, group, groups)[step * share + place] for group, place in places], dtype="int32"
        )
