"""Media roots as people are shown them: by name, and with a node where the name alone would have several meanings.

A job keeps the identity of its roots, which says which storage they are. What is shown of it must mean the same storage
when it is pasted into the next submission; so the node is added as soon as nodes use one name for different storages,
and left out again when they do not any more. Where several nodes have the storage, it is called as its submitter called
it, as long as that still means it; else by the node where the job ran.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ffrtmp.spec import JobSpec, MediaPath

from .paths import Roots


@dataclass(frozen=True, slots=True)
class RootNames:
    """What the names of media roots mean now."""

    homes: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)  # identity -> name -> its nodes
    several: frozenset[str] = frozenset()  # names that mean several storages
    ran: str = ""  # the node of the job that is told of, see `of_job`

    @classmethod
    def of(cls, roots: Roots) -> RootNames:
        """From what the nodes announce."""
        homes: dict[str, dict[str, list[str]]] = {}
        meanings: dict[str, set[str]] = {}
        for node, announced in sorted(roots.items()):
            for root in announced:
                homes.setdefault(root.identity, {}).setdefault(root.name, []).append(node)
                meanings.setdefault(root.name, set()).add(root.identity)
        return cls(homes, frozenset(name for name, found in meanings.items() if len(found) > 1))

    def of_job(self, node: str) -> RootNames:
        """The names for what is told of a job that runs, or ran, on `node` (empty: on none yet)."""
        return replace(self, ran=node) if node else self

    def root(self, path: MediaPath) -> str:
        """ROOT, or ROOT@NODE where the name has several meanings. Of a storage that nobody has any more, its old name."""
        names = self.homes.get(path.root_id)
        if not names:
            return path.root
        name = path.root if path.root in names else self._renamed(names, path)
        if name not in self.several:
            return name
        return f"{name}@{self._one_of(names[name], path)}"

    def _renamed(self, names: Mapping[str, Sequence[str]], path: MediaPath) -> str:
        """What a storage is called that nobody calls any more as the job does: that name may mean another one now."""
        caller = self._one_of(tuple(sorted({node for nodes in names.values() for node in nodes})), path)
        return next(name for name, nodes in names.items() if caller in nodes)

    def _one_of(self, nodes: Sequence[str], path: MediaPath) -> str:
        """The node of these that the job's submitter named, else where the job ran, else the first."""
        return next((node for node in (path.node, self.ran) if node in nodes), nodes[0])

    def path(self, path: MediaPath) -> str:
        """ROOT:relative or ROOT@NODE:relative, as it can be submitted again."""
        return f"{self.root(path)}:{path.relative}"

    def named(self, text: str, spec: JobSpec) -> str:
        """What rules and nodes say of the job's paths, in the words of this farm.

        The rules know identities alone, and a node only its own name of a root.
        """
        words: dict[str, str] = {}
        for path in (spec.source.path, spec.output):
            if path is not None:
                words[f"{path.root_id}:r"] = f"{self.root(path)} (to read)"
                words[f"{path.root_id}:w"] = f"{self.root(path)} (to write)"
                words.setdefault(f"{path.root}:{path.relative}", self.path(path))
        if not words:
            return text
        # The longest first, and each place once: the input's path may be how the output's begins.
        wanted = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
        return re.sub(wanted, lambda found: words[found[0]], text)
