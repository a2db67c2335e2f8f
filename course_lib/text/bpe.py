"""Merges: which pieces to join, as training a WordPiece or a BPE vocabulary learns it, and joining them by rank.

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


def apply_merges(symbols, ranks):
    """Merges the pair of neighbours with the lowest rank, the leftmost of several, until no pair has a rank.

    A queue of the pairs that can be merged makes this n log n in the number of symbols: GPT-2's own loop looks for the
    lowest rank among all pairs each time, which a long word, such as a page of Chinese, makes slow.

    Args:
        symbols: strings.
        ranks: a dict from a pair of symbols to the place of its merge among all merges.

    Returns:
        A list of strings, which together are the same.
    """
    symbols = [*symbols, None]  # None is the neighbour of the first and of the last, and what merging leaves behind
    before, after = [-1, *range(len(symbols) - 1)], [*range(1, len(symbols)), 0]
    queue = [(ranks[pair], place) for place, pair in enumerate(itertools.pairwise(symbols)) if pair in ranks]
    heapq.heapify(queue)
    while queue:
        rank, left = heapq.heappop(queue)
        right = after[left]
        if ranks.get((symbols[left], symbols[right])) != rank:
            continue  # one of the two has been merged with another since
        symbols[left], symbols[right] = symbols[left] + symbols[right], None
        after[left] = after[right]
        before[after[left]] = left
        for place in (before[left], left):
            pair = symbols[place], symbols[after[place]]
            if pair in ranks:
                heapq.heappush(queue, (ranks[pair], place))
    return [symbol for symbol in symbols if symbol is not None]
