"""Media roots as people are shown them: by name, and with a node where the name alone would have several meanings.

A job keeps the identity of its roots, which says which storage they are. What is shown of it must mean the same storage
when it is pasted into the next submission; so the node is added as soon as nodes use one name for different storages,
and left out again when they do not any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ffrtmp.spec import JobSpec, MediaPath

from .paths import Roots


@dataclass(frozen=True, slots=True)
class RootNames:
    """What the names of media roots mean now: name -> identity -> the first node that announces it."""

    nodes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, roots: Roots) -> RootNames:
        """From what the nodes announce."""
        nodes: dict[str, dict[str, str]] = {}
        for node, announced in sorted(roots.items()):
            for root in announced:
                nodes.setdefault(root.name, {}).setdefault(root.identity, node)
        return cls(nodes)

    def root(self, path: MediaPath) -> str:
        """ROOT, or ROOT@NODE where the name has several meanings. Of a storage that nobody has any more, its old name."""
        known = self.nodes.get(path.root, {})
        node = known.get(path.root_id, "") if len(known) > 1 else ""
        return f"{path.root}@{node}" if node else path.root

    def path(self, path: MediaPath) -> str:
        """ROOT:relative or ROOT@NODE:relative, as it can be submitted again."""
        return f"{self.root(path)}:{path.relative}"

    def named(self, text: str, spec: JobSpec) -> str:
        """What rules and nodes say of the job's paths, in the words of this farm.

        The rules know identities alone, and a node only its own name of a root.
        """
        for path in (spec.source.path, spec.output):
            if path is not None:
                text = text.replace(f"{path.root_id}:r", f"{self.root(path)} (to read)")
                text = text.replace(f"{path.root_id}:w", f"{self.root(path)} (to write)")
                text = text.replace(f"{path.root}:{path.relative}", self.path(path))
        return text
