"""Learning which pieces to join: what training a WordPiece and a byte-level BPE vocabulary have in common.

Byte-pair encoding (Sennrich et al., 2016, https://arxiv.org/abs/1508.07909, algorithm 1): words begin as sequences of
single symbols; again and again, the pair of neighbours that occurs most often becomes a symbol of its own.
"""

import collections
import heapq
import itertools
import operator


def learn_merges(words, symbols, vocabulary_size, join=operator.add):
    """Merges the most frequent pair of neighbours, and again, until there are as many symbols as asked for.

    Of pairs that occur equally often, the one with the smaller ids comes first, so that nothing depends on the order
    of the words. Counts are kept up to date in place: a merge costs as much as the words that it changes.

    Args:
        words: a dict from a word, a tuple of symbols, to how often it occurs.
        symbols: the symbols that there are, in the order of their ids, special tokens included.
        vocabulary_size: how many symbols there shall be. There are fewer where the words have become one symbol each.
        join: what two neighbours become, a function of both.

    Returns:
        The merges, pairs of symbols in the order in which they were learned, and the list of all symbols.
    """
    symbols = list(symbols)
    ids = {symbol: index for index, symbol in enumerate(symbols)}
    sequences = [[ids[symbol] for symbol in word] for word in words]
    occurrences = list(words.values())
    counts, places = collections.Counter(), collections.defaultdict(set)  # of each pair of ids
    for place, (sequence, count) in enumerate(zip(sequences, occurrences, strict=True)):
        for pair in itertools.pairwise(sequence):
            counts[pair] += count
            places[pair].add(place)

    queue = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(queue)
    merges = []
    while queue and len(symbols) < vocabulary_size:
        count, pair = heapq.heappop(queue)
        if -count != counts[pair]:  # other merges have used some of its occurrences up
            if counts[pair]:
                heapq.heappush(queue, (-counts[pair], pair))
            continue
        first, second = (symbols[index] for index in pair)
        merges.append((first, second))
        merged = ids.setdefault(join(first, second), len(symbols))
        if merged == len(symbols):  # else two ways lead to the same symbol
            symbols.append(join(first, second))
        changed = set()
        for place in places.pop(pair):
            count = occurrences[place]
            for old in itertools.pairwise(sequences[place]):
                counts[old] -= count
            sequences[place] = merge(sequences[place], pair, merged)
            for new in itertools.pairwise(sequences[place]):
                counts[new] += count
                if merged in new:
                    places[new].add(place)
                    changed.add(new)
        for new in changed:
            heapq.heappush(queue, (-counts[new], new))
    return merges, symbols


def merge(sequence, pair, merged):
    """Replaces a pair of neighbours wherever it occurs, from left to right.

    Args:
        sequence: a list of symbols.
        pair: two symbols.
        merged: what takes their place.

    Returns:
        A list.
    """
    result = []
    for symbol in sequence:
        if result and (result[-1], symbol) == pair:
            result[-1] = merged
        else:
            result.append(symbol)
    return result
