"""Lists, dicts, sets, queues, iterators and what the standard library does to them."""

import array
import bisect
import copy
import heapq
import io
import itertools
import json
import operator
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any

from . import keep, move

heap: list[int] = []
ordered: list[int] = []
counts: Counter[int] = Counter()
groups: defaultdict[int, list[int]] = defaultdict(list)
index: dict[int, list[int]] = {}
pair: tuple[list[int], list[int]] = ([], [])
rows: list[list[int]] = [[], [], []]
seen: set[int] = set()
options = {"a": 1}
work = list(range(100))
buffer = array.array("d")
recent: OrderedDict[int, int] = OrderedDict()
tree: dict[str, Any] = {"left": {"values": []}, "values": []}
best: list[Any] = [1e9, None]
graph = {i: {(i + 1) % 50: 1, (i * 7) % 50: 3} for i in range(50)}
template = {"rows": [[0] * 3 for _ in range(3)]}
words = ["a", "b", "c", "a"] * 20
records = [{"a": i, "b": 0} for i in range(10)]


@keep("heapq pushes onto a global list")
def pushes_heap(number: int) -> None:
    heapq.heappush(heap, -number)


@keep("bisect inserts into a global list")
def inserts_sorted(number: int) -> None:
    bisect.insort(ordered, -number)


@keep("counts in a global Counter")
def counts_numbers(number: int) -> int:
    counts[number % 3] += 1
    return number


@keep("appends to the lists of a global defaultdict")
def groups_numbers(number: int) -> None:
    groups[number % 4].append(number)


@keep("a mere lookup in a global defaultdict inserts")
def looks_up_group(number: int) -> int:
    return len(groups[number])


@keep("setdefault, then append")
def indexes(number: int) -> None:
    index.setdefault(number % 5, []).append(number)


@keep("unpacks a global tuple of lists and appends to one")
def appends_to_either(number: int) -> None:
    even, odd = pair
    (odd if number % 2 else even).append(number)


@keep("zip over global rows")
def fills_rows(number: int) -> None:
    for row, value in zip(rows, (number, number, number)):
        row.append(value)


@keep("enumerate over global rows")
def fills_rows_by_number(number: int) -> None:
    for place, row in enumerate(rows):
        row.append(place)


@keep("adds to a global set through map")
def sees_all(number: int) -> None:
    list(map(seen.add, (number, number + 1)))


@keep("what it returns depends on a global set that it fills")
def sees_once(number: int) -> int | None:
    if number in seen:
        return None
    seen.add(number)
    return number


@keep("|= through an alias of a global dict")
def merges_options(number: int) -> int:
    known = options
    known |= {"a": number}
    return len(known)


@keep("pops from a global list of work")
def takes_work(number: int) -> int:
    return work.pop() + number


@keep("sorts a global list with a key")
def sorts_global(number: int) -> int:
    ordered.sort(key=lambda value: value * number % 7)
    return number


@keep("appends to an array of the standard library")
def fills_buffer(number: int) -> None:
    buffer.append(number)


@keep("moves entries of an OrderedDict on every lookup")
def uses_recent(number: int) -> int:
    if number in recent:
        recent.move_to_end(number)
        return recent[number]
    recent[number] = number * 2
    return recent[number]


@keep("walks down a nested dict and appends there")
def grows_tree(number: int) -> None:
    node = tree
    while "left" in node and number > 10:
        node = node["left"]
        number -= 10
    node.setdefault("values", []).append(number)


@keep("remembers the best so far by slice assignment")
def remembers_best(number: int) -> int:
    score = (number * 7919 + 50) % 101
    if score < best[0]:
        best[:] = [score, number]
    return score


@keep("methodcaller appends to a global list")
def calls_method_by_name(number: int) -> None:
    operator.methodcaller("append", number)(ordered)


@keep("a comprehension is run for what it appends")
def appends_in_comprehension(number: int) -> int:
    return len([ordered.append(i) for i in range(number % 3)])


@keep("puts a global list into a local one, then writes to it there")
def writes_through_local_list(number: int) -> None:
    targets = [ordered]
    targets[0].append(number)


@keep("puts a global list into a local dict by assignment, then writes to it there")
def writes_through_local_dict(number: int) -> None:
    targets: dict[str, list[int]] = {}
    targets["a"] = ordered
    for target in targets.values():
        target.append(number)


@keep("appends a global list to a local one, then writes to it there")
def writes_through_appended(number: int) -> None:
    targets: list[list[int]] = []
    targets.append(ordered)
    targets[-1].append(number)


@keep("a captured counter of itertools moves on", made=True)
def takes_number() -> Callable[[int], Any]:
    ids = itertools.count(100)
    return lambda number: (next(ids), number)


@keep("a captured generator is consumed through islice", made=True)
def takes_slice() -> Callable[[int], int]:
    squares = (i * i for i in itertools.count())
    return lambda number: sum(itertools.islice(squares, 2))


@keep("a captured cycle moves on", made=True)
def takes_turns() -> Callable[[int], int]:
    turns = itertools.cycle([1, 2, 3])

    def take(number: int) -> int:
        for turn in turns:
            return number * turn
        return 0

    return take


@keep("deletes from a global dict")
def forgets(number: int) -> None:
    options["gone"] = number
    del options["gone"]


@keep("only on a rare exception")
def records_error(number: int) -> int | None:
    try:
        return 10 // (number % 20 - 7)
    except ZeroDivisionError as error:
        ordered.append(len(str(error)))
        return None


@keep("in a finally clause")
def records_finally(number: int) -> int:
    try:
        return number
    finally:
        ordered.append(number)


@move("containers of its own, in every way")
def uses_own_containers(number: int) -> Any:
    out: list[int] = []
    tally: Counter[int] = Counter()
    grouped: defaultdict[int, list[int]] = defaultdict(list)
    last: deque[int] = deque(maxlen=3)
    for i in range(number % 5 + 2):
        out.append(i)
        tally[i] += 1
        grouped[i % 2].append(i)
        last.appendleft(i)
    out.reverse()
    own = {number}
    own |= {1}
    own -= {2}
    return out, tally, dict(grouped), own


@move("Dijkstra over a global graph")
def finds_paths(source: int) -> int:
    distance, waiting = {source: 0}, [(0, source)]
    while waiting:
        far, node = heapq.heappop(waiting)
        if far > distance[node]:
            continue
        for other, weight in graph[node].items():
            if far + weight < distance.get(other, 10**9):
                distance[other] = far + weight
                heapq.heappush(waiting, (far + weight, other))
    return sum(distance.values())


@move("changes a deep copy of a global")
def changes_deep_copy(number: int) -> int:
    mine = copy.deepcopy(template)
    mine["rows"][0][0] = number
    mine["rows"].append([number])
    return len(mine["rows"])


@move("changes what json makes of a global")
def changes_json_copy(number: int) -> Any:
    mine = json.loads(json.dumps(template))
    mine["rows"].append(number)
    mine["rows"][0].pop()
    return mine


@move("counts global words in a Counter of its own")
def counts_words(number: int) -> Any:
    counter = Counter(words[:number])
    counter.update("zz")
    return counter.most_common(2)


@move("copies of global records with a field changed")
def copies_records(number: int) -> list[dict[str, int]]:
    return [dict(record, b=number) for record in records if record["a"] != number]


@move("an outer copy of rows gets new rows")
def replaces_rows(number: int) -> int:
    mine = copy.copy(rows)
    mine[0] = [number]
    return len(mine)


@move("a grid of its own")
def fills_grid(number: int) -> list[int]:
    grid = [[0] * 5 for _ in range(5)]
    for i in range(5):
        grid[i][number % 5] = 1
    sums = list(map(sum, grid))
    sums[0] += 1
    return sums


@move("a sieve in a bytearray")
def sieves(number: int) -> int:
    marks = bytearray([1]) * (number + 50)
    marks[0:2] = b"\0\0"
    for i in range(2, 8):
        if marks[i]:
            marks[i * i :: i] = bytes(len(range(i * i, len(marks), i)))
    return sum(marks)


@move("a StringIO of its own, printed to")
def prints_to_own(number: int) -> str:
    text = io.StringIO()
    print("number", number, file=text)
    text.write("!")
    return text.getvalue()


@move("a trie of its own")
def builds_trie(number: int) -> Any:
    root: dict[str, Any] = {}
    for word in (f"a{number}", "abc"):
        node = root
        for letter in word:
            node = node.setdefault(letter, {})
        node["$"] = True
    return root


@move("backtracking with local lists and a closure")
def permutes(number: int) -> int:
    found: list[tuple[int, ...]] = []
    things = list(range(number % 4))

    def go(chosen: list[int]) -> None:
        if len(chosen) == len(things):
            found.append(tuple(chosen))
            return
        for thing in things:
            if thing not in chosen:
                chosen.append(thing)
                go(chosen)
                chosen.pop()

    go([])
    return len(found)


def _numbers(count: int) -> Iterator[int]:
    made = []
    for i in range(count):
        made.append(i)
        yield sum(made)


@move("generators of its own, chained")
def chains_generators(number: int) -> list[int]:
    return list(itertools.accumulate(itertools.chain(_numbers(number), (i for i in range(3)))))


@move("quicksort that pops from the lists it made")
def sorts_quickly(number: int) -> list[int]:
    def quick(values: list[int]) -> list[int]:
        if len(values) < 2:
            return values
        pivot = values.pop()
        return [*quick([v for v in values if v <= pivot]), pivot, *quick([v for v in values if v > pivot])]

    return quick([number, 3, 9, 1, number * 2])


@move("a graph in a defaultdict of its own, with a class as its factory")
def walks_graph(number: int) -> set[int]:
    near: defaultdict[int, set[int]] = defaultdict(set)
    near[1].add(number)
    near[number].add(1)
    return near[1] | near[number]
