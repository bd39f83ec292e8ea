"""Trees of topic names and of topic filters.

``TopicTree`` holds topics and finds those that a filter matches: the retained
store and the router's cache use it. ``FilterTree`` holds filters and finds
those that match a topic: the router uses it. Both know levels and wildcards
(MQTT 5.0 section 4.7) and nothing of what they hold.

How it is laid out, since a million entries make every byte count. A node maps
levels to what lies below. A value that is alone below a level stands in the
map itself, however many levels its name has; a node is made only where two
names share a path. So a tree asks each value for its name (the *name* function
of the constructor) and keeps none of its own. A map of many entries becomes a
``_Wide`` of small maps, which bounds what an iteration must copy to survive
changes, and the pause for growing a large dict.

A walk looks each key up when it gets there, and nodes are taken out only when
empty. So what is in the tree from a walk's beginning to its end is met once;
what comes or goes meanwhile may be met or not; what is gone is not met any more.
Nothing recurses: a name may have any number of levels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
    __slots__ = ("children", "value")

    def __init__(self) -> None:
        #: What has exactly this path for its name.
        self.value: V | None = None
        self.children: dict[str, _Node[V] | V] | _Wide = {}

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
        self._root: _Node[V] = _Node()
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
            child = node.children.get(key)
            if isinstance(child, _Node):
                if child.value is not None:
                    yield child.value
                stack.append((child, _keys(child.children)))
            elif child is not None:
                yield child

    def get(self, name: str) -> V | None:
        """The value with this very name."""
        node = self._root
        for level in name.split("/"):
            child = node.children.get(level)
            if not isinstance(child, _Node):
                return child if child is not None and self._name(child) == name else None
            node = child
        return node.value

    def set(self, value: V) -> V | None:
        """Put *value* in; returns the value of the same name that it replaces."""
        name = self._name(value)
        node = self._root
        moved: list[str] = []
        for depth, level in enumerate(name.split("/")):
            child = node.children.get(level)
            if child is None:
                node.put(level, value)
                self._count += 1
                return None
            if not isinstance(child, _Node):
                if self._name(child) == name:
                    node.put(level, value)
                    return child
                below: _Node[V] = _Node()
                moved = moved or self._name(child).split("/")
                if len(moved) == depth + 1:
                    below.value = child
                else:
                    below.put(moved[depth + 1], child)
                node.put(level, below)
                child = below
            node = child
        replaced, node.value = node.value, value
        if replaced is None:
            self._count += 1
        return replaced

    def delete(self, name: str) -> V | None:
        """Take out the value of this name, and the nodes that only led there."""
        node = self._root
        path: list[tuple[_Node[V], str]] = []
        found: V | None = None
        for level in name.split("/"):
            child = node.children.get(level)
            if not isinstance(child, _Node):
                if child is None or self._name(child) != name:
                    return None
                found = child
                del node.children[level]
                break
            path.append((node, level))
            node = child
        else:
            found, node.value = node.value, None
            if found is None:
                return None
        self._count -= 1
        self._prune(node, path)
        return found

    def _prune(self, node: _Node[V], path: list[tuple[_Node[V], str]]) -> None:
        while path and not node.children:
            parent, level = path.pop()
            if node.value is not None:
                parent.put(level, node.value)
                return
            del parent.children[level]
            node = parent


class TopicTree(_Tree[V]):
    """Topics, to be found by filter."""

    __slots__ = ()

    def match(self, topic_filter: str) -> Iterator[V]:
        """The values whose topics *topic_filter* matches, found as asked for."""
        return (value for value in self.walk(topic_filter) if value is not None)

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
            keys = (key for key in keys if not key.startswith("$"))
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
            child = node.children.get(key)
            if child is None:
                continue
            # Below a "#" the depth stays where the "#" is.
            below = depth if levels[depth] == "#" else depth + 1
            if not isinstance(child, _Node):
                if levels[depth] == "#" or _rest_matches(
                    levels, self._name(child).split("/"), below
                ):
                    yield child
                continue
            # "#" matches the parent level as well.
            # [MQTT-4.7.1-1] [MQTT311-4.7.1-2]
            if child.value is not None and (below == end or levels[below] == "#"):
                yield child.value
            if below < end:
                stack.append((child, self._candidates(child, levels[below]), below))

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
        node = self._root
        path: list[tuple[_Node[V], str]] = []
        levels = head.split("/")
        for depth, level in enumerate(levels):
            path.append((node, level))
            child = node.children.get(level)
            if child is None:
                return []
            if not isinstance(child, _Node):
                name = self._name(child)
                if not _rest_matches([*levels, "#"], name.split("/"), depth):
                    return []
                self.delete(name)
                return [child]
            node = child
        found = _all_below(node)
        parent, level = path.pop()
        del parent.children[level]
        self._count -= len(found)
        self._prune(parent, path)
        return found

    def clear(self) -> None:
        """Take out everything."""
        self._root = _Node()
        self._count = 0


class FilterTree(_Tree[V]):
    """Filters, to be found by a topic that they match."""

    __slots__ = ()

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
        stack: list[tuple[_Node[V], int]] = [(self._root, 0)]
        while stack:
            node, depth = stack.pop()
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
                    stack.append((child, depth + 1))
                elif child is not None and _rest_matches(
                    self._name(child).split("/"), levels, depth + 1
                ):
                    found.append(child)
        return found
