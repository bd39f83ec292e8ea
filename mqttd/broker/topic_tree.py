"""Trees of topic names and of topic filters.

``TopicTree`` holds topics and finds those that a filter matches: the retained
store and the router's cache use it. ``FilterTree`` holds filters and finds
those that match a topic: the router uses it. Both know levels and wildcards
(MQTT 5.0 section 4.7) and nothing of what they hold.

How it is laid out, since a million entries make every byte count. A node maps
levels to what lies below. A value that is alone below a level stands in the map
itself, however many levels its name has; a node is made only where two names
part, and goes when they no longer do, so there are never more nodes than
values. A tree asks each value for its name (the *name* function of the
constructor) and keeps none of its own. A map of many entries becomes a
``_Wide`` of small maps, which bounds what an iteration must copy to survive
changes, and the pause for growing a large dict.

A walk looks each key up when it gets there. A node keeps its place in the
names for life; one that is taken out of the tree while a walk stands in it says
so, and the walk then asks the tree. So what is in the tree from a walk's
beginning to its end is met once; what comes or goes meanwhile may be met or
not; what is gone is not met any more. Nothing recurses: a name may have any
number of levels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar

V = TypeVar("V")

#: Entries of a map above which it is divided.
_WIDE = 1024

#: Steps of a walk between two breaths.
_BREATH = 256


class _Wide:
    """A map of levels in 64 parts by hash; parts that grow too large divide again."""

    __slots__ = ("_shift", "parts")

    def __init__(self, entries: dict[str, Any], shift: int) -> None:
        self._shift = shift
        self.parts: list[dict[str, Any] | _Wide] = [{} for _ in range(64)]
        for key, value in entries.items():
            self[key] = value

    def get(self, key: str) -> Any:
        return self.parts[hash(key) >> self._shift & 63].get(key)

    def __setitem__(self, key: str, value: Any) -> None:
        index = hash(key) >> self._shift & 63
        part = self.parts[index]
        part[key] = value
        if type(part) is dict and len(part) > _WIDE and self._shift < 48:
            self.parts[index] = _Wide(part, self._shift + 6)

    def __delitem__(self, key: str) -> None:
        del self.parts[hash(key) >> self._shift & 63][key]

    def __bool__(self) -> bool:
        return any(self.parts)

    def __iter__(self) -> Iterator[str]:
        for index in range(64):
            yield from _keys(self.parts[index])


def _keys(children: dict[str, Any] | _Wide) -> Iterator[str]:
    """The levels in *children*, in spite of changes between steps."""
    return iter(list(children)) if isinstance(children, dict) else iter(children)


class _Node(Generic[V]):
    """Where names part: all names below begin with the levels of ``path``."""

    __slots__ = ("children", "depth", "live", "path", "value")

    def __init__(self, path: str, depth: int) -> None:
        self.path = path
        #: Levels in ``path``; the children differ in the next one.
        self.depth = depth
        #: What has exactly this path for its name.
        self.value: V | None = None
        self.children: dict[str, _Node[V] | V] | _Wide = {}
        #: False: no longer in the tree.
        self.live = True

    def put(self, level: str, child: _Node[V] | V) -> None:
        children = self.children
        children[level] = child
        if type(children) is dict and len(children) > _WIDE:
            self.children = _Wide(children, 0)


def _rest_matches(filter_levels: Sequence[str], topic_levels: Sequence[str], start: int) -> bool:
    """Whether filter and topic match from level *start* on."""
    end = len(topic_levels)
    for index in range(start, len(filter_levels)):
        level = filter_levels[index]
        if level == "#":
            return True
        # Character for character: no normalization.
        # [MQTT-4.7.3-4] [MQTT311-4.7.3-4]
        if index == end or (level != "+" and level != topic_levels[index]):
            return False
    return len(filter_levels) == end


def _is_plain(level: str) -> bool:
    """Whether a wildcard in the first level matches this one."""
    return not level.startswith("$")


def _parting(one: Sequence[str], other: Sequence[str], start: int) -> int:
    """The first level from *start* on in which two names differ, or one ends."""
    end = min(len(one), len(other))
    for index in range(start, end):
        if one[index] != other[index]:
            return index
    return end


def _all_below(node: _Node[V]) -> list[V]:
    """Every value of a branch, at one go."""
    found: list[V] = []
    stack: list[_Node[V]] = [node]
    while stack:
        node = stack.pop()
        if node.value is not None:
            found.append(node.value)
        parts: list[Any] = [node.children]
        while parts:
            part = parts.pop()
            if isinstance(part, _Wide):
                parts.extend(part.parts)
                continue
            for child in part.values():
                if isinstance(child, _Node):
                    stack.append(child)
                else:
                    found.append(child)
    return found


class _Tree(Generic[V]):
    """Values by the levels of their names."""

    __slots__ = ("_count", "_name", "_root")

    def __init__(self, name: Callable[[V], str]) -> None:
        """*name* tells a value's topic or filter, which must not change."""
        self._name = name
        self._root: _Node[V] = _Node("", 0)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[V]:
        """Every value; the tree may change between steps."""
        stack = [(self._root, _keys(self._root.children))]
        while stack:
            node, keys = stack[-1]
            key = next(keys, None)
            if key is None:
                stack.pop()
                continue
            child = self._child(node, key)
            if isinstance(child, _Node):
                value = self._value(child)
                if value is not None:
                    yield value
                stack.append((child, _keys(child.children)))
            elif child is not None:
                yield child

    def _child(self, node: _Node[V], key: str) -> _Node[V] | V | None:
        """What a walk meets at *key* of a *node* that may have left the tree."""
        child: _Node[V] | V | None = node.children.get(key)
        if child is None or node.live or isinstance(child, _Node):
            return child
        return self.get(self._name(child))

    def _value(self, node: _Node[V]) -> V | None:
        """The value that a walk meets at a *node* that may have left the tree."""
        return node.value if node.live else self.get(node.path)

    def get(self, name: str) -> V | None:
        """The value with this very name."""
        levels = name.split("/")
        node = self._root
        while True:
            child = node.children.get(levels[node.depth])
            if isinstance(child, _Node):
                node = child
                if node.depth < len(levels):
                    continue
                child = node.value
            return child if child is not None and self._name(child) == name else None

    def set(self, value: V) -> V | None:
        """Put *value* in; returns the value of the same name that it replaces."""
        name = self._name(value)
        levels = name.split("/")
        node = self._root
        while True:
            level = levels[node.depth]
            child = node.children.get(level)
            if child is None:
                node.put(level, value)
                break
            below = child.path if isinstance(child, _Node) else self._name(child)
            if below == name:
                if not isinstance(child, _Node):
                    node.put(level, value)
                    return child
                replaced, child.value = child.value, value
                self._count += replaced is None
                return replaced
            others = below.split("/")
            depth = _parting(levels, others, node.depth + 1)
            if isinstance(child, _Node) and depth == child.depth:
                node = child
                continue
            between: _Node[V] = _Node("/".join(levels[:depth]), depth)
            for other, path in ((child, others), (value, levels)):
                if len(path) > depth:
                    between.put(path[depth], other)
                else:
                    assert not isinstance(other, _Node)
                    between.value = other
            node.put(level, between)
            break
        self._count += 1
        return None

    def delete(self, name: str) -> V | None:
        """Take out the value of this name, and a node that it alone required."""
        levels = name.split("/")
        node = self._root
        above: list[_Node[V]] = []
        while True:
            level = levels[node.depth]
            child = node.children.get(level)
            if isinstance(child, _Node):
                above.append(node)
                node = child
                if node.depth < len(levels):
                    continue
                child = node.value
                if child is None or self._name(child) != name:
                    return None
                node.value = None
            elif child is None or self._name(child) != name:
                return None
            else:
                del node.children[level]
            break
        self._count -= 1
        self._prune(node, above, levels)
        return child

    def _prune(self, node: _Node[V], above: list[_Node[V]], levels: Sequence[str]) -> None:
        """Take *node* out if it holds one thing or nothing; *above* leads to it."""
        while above:
            keys = list(islice(_keys(node.children), 2))
            if len(keys) + (node.value is not None) > 1:
                return
            parent = above.pop()
            level = levels[parent.depth]
            node.live = False
            only = node.children.get(keys[0]) if keys else node.value
            if only is not None:
                parent.put(level, only)
                return
            del parent.children[level]
            node = parent


class TopicTree(_Tree[V]):
    """Topics, to be found by filter."""

    __slots__ = ()

    def match(self, topic_filter: str) -> Iterator[V]:
        """The values whose topics *topic_filter* matches, found as asked for."""
        # Not a generator expression: compiled, that would be a list.
        for value in self.walk(topic_filter):
            if value is not None:
                yield value

    def walk(self, topic_filter: str) -> Iterator[V | None]:
        """Like ``match``, with a None every few hundred steps.

        A filter may visit a million topics and match none: the None lets the
        caller do something else in between.
        """
        levels = topic_filter.split("/")
        end = len(levels)
        steps = 0
        keys = self._candidates(self._root, levels[0])
        if levels[0] in ("+", "#"):
            # [MQTT-4.7.2-1] [MQTT311-4.7.2-1]
            keys = filter(_is_plain, keys)
        stack: list[tuple[_Node[V], Iterator[str], int]] = [(self._root, keys, 0)]
        while stack:
            node, keys, depth = stack[-1]
            key = next(keys, None)
            if key is None:
                stack.pop()
                continue
            steps += 1
            if steps % _BREATH == 0:
                yield None
            child = self._child(node, key)
            if child is None:
                continue
            multi = levels[depth] == "#"
            if not isinstance(child, _Node):
                if multi or _rest_matches(levels, self._name(child).split("/"), depth + 1):
                    yield child
                continue
            # Below a "#" the depth stays where the "#" is.
            below = depth if multi else self._descend(levels, child, depth + 1)
            # "#" matches the parent level as well.
            # [MQTT-4.7.1-1] [MQTT311-4.7.1-2]
            if below == end or levels[below : below + 1] == ["#"]:
                value = self._value(child)
                if value is not None:
                    yield value
            if below < end:
                stack.append((child, self._candidates(child, levels[below]), below))

    @staticmethod
    def _descend(levels: Sequence[str], child: _Node[V], start: int) -> int:
        """The level of the filter that judges the children of *child*.

        Beyond its end when the filter does not match the path so far.
        """
        depth = child.depth
        if depth > start:
            path = child.path.split("/")
            for index in range(start, depth):
                if index == len(levels):
                    return index + 1
                level = levels[index]
                if level == "#":
                    return index
                if level != "+" and level != path[index]:
                    return len(levels) + 1
        return depth

    @staticmethod
    def _candidates(node: _Node[V], level: str) -> Iterator[str]:
        # [MQTT-4.7.1-2] [MQTT311-4.7.1-3]
        return _keys(node.children) if level in ("+", "#") else iter((level,))

    def pop_matching(self, topic_filter: str) -> list[V]:
        """Take out all that *topic_filter* matches; a ``#`` takes whole branches."""
        head = topic_filter[:-2]
        if topic_filter.endswith("/#") and "+" not in head:
            return self._pop_branch(head)
        found = list(self.match(topic_filter))
        for value in found:
            self.delete(self._name(value))
        return found

    def _pop_branch(self, head: str) -> list[V]:
        levels = head.split("/")
        node = self._root
        above: list[_Node[V]] = []
        while node.depth < len(levels):
            child = node.children.get(levels[node.depth])
            if not isinstance(child, _Node):
                name = "" if child is None else self._name(child)
                if child is None or not f"{name}/".startswith(f"{head}/"):
                    return []
                self.delete(name)
                return [child]
            above.append(node)
            node = child
        if not f"{node.path}/".startswith(f"{head}/"):
            return []
        found = _all_below(node)
        node.live = False
        parent = above.pop()
        del parent.children[levels[parent.depth]]
        self._count -= len(found)
        self._prune(parent, above, levels)
        return found

    def clear(self) -> None:
        """Take out everything."""
        self._root = _Node("", 0)
        self._count = 0


class FilterTree(_Tree[V]):
    """Filters, to be found by a topic that they match."""

    __slots__ = ()

    def has_first(self, level: str) -> bool:
        """Whether a filter begins with this very *level*."""
        return self._root.children.get(level) is not None

    def matching(self, topic: str) -> list[V]:
        """The values whose filters match *topic*.

        Each node is visited at most once, so the cost is bounded by the nodes
        that the topic reaches, whatever the filters look like.
        """
        levels = topic.split("/")
        end = len(levels)
        found: list[V] = []
        # [MQTT-4.7.2-1] [MQTT311-4.7.2-1]
        hidden = topic.startswith("$")
        stack: list[_Node[V]] = [self._root]
        while stack:
            node = stack.pop()
            depth = node.depth
            get = node.children.get
            if depth or not hidden:
                # [MQTT-4.7.1-1] [MQTT311-4.7.1-2]
                multi = get("#")
                if multi is not None and not isinstance(multi, _Node):
                    found.append(multi)
            if depth == end:
                if node.value is not None:
                    found.append(node.value)
                continue
            # [MQTT-4.7.1-2] [MQTT311-4.7.1-3]
            for level in (levels[depth], "+") if depth or not hidden else (levels[0],):
                child = get(level)
                if isinstance(child, _Node):
                    if self._leads_to(child, levels, depth + 1):
                        stack.append(child)
                elif child is not None and _rest_matches(
                    self._name(child).split("/"), levels, depth + 1
                ):
                    found.append(child)
        return found

    @staticmethod
    def _leads_to(child: _Node[V], levels: Sequence[str], start: int) -> bool:
        """Whether the path of *child* matches the topic from level *start* on."""
        if child.depth == start:
            return True
        if child.depth > len(levels):
            return False
        path = child.path.split("/")
        return all(
            path[index] == "+" or path[index] == levels[index]
            for index in range(start, child.depth)
        )
