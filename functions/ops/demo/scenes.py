"""The tasks of the demo: work of both kinds on real input, and the troubles that they meet."""

from dataclasses import dataclass
from typing import Any

from functions.ops.local.samples import PROMPTS, selection_input


@dataclass(frozen=True)
class Scene:
    """One task. `trouble` names what happens to it, `expect` the state in which it must end."""

    kind: str
    task_input: dict[str, Any]
    trouble: str = ""
    expect: str = "completed"
    priority: int = 0

    @property
    def label(self) -> str:
        return self.task_input.get("prompt") or (
            f"panel, seed {self.task_input['seed']}" if "seed" in self.task_input else self.kind
        )


def image(prompt: str, trouble: str = "", expect: str = "completed") -> Scene:
    return Scene("image", _picture(prompt), trouble, expect)


def _picture(prompt: str) -> dict[str, Any]:
    return {"prompt": prompt, "size": "256x256"}


def all_scenes() -> list[Scene]:
    return [
        *(image(f"{PROMPTS[number]} [slow 4]", "worker killed") for number in range(3)),
        image(f"{PROMPTS[3]} [slow 4]", "worker frozen"),
        Scene("poison", {}, "kills its worker", "failed"),
        Scene("overtime", {}, "never ends", "failed"),
        Scene("hungry", {}, "eats memory", "failed"),
        image("a street parade [500 once]", "provider fails once"),
        image("a street parade [429 once]", "provider is busy"),
        image("a street parade [reset once]", "connection reset"),
        image("a street parade [garbage once]", "provider talks nonsense"),
        image("a street parade [hang once]", "provider hangs"),
        image("a street parade [refuse]", "provider refuses", "failed"),
        *(image(prompt) for prompt in PROMPTS),
        *(Scene("selection", selection_input(seed)) for seed in range(1, 11)),
    ]


def lost_scenes() -> list[Scene]:
    """Their pushes are lost: the first only its first one, the second all of them. No push of
    another task starts them (`dispatch: named`)."""
    return [
        Scene("letter", _picture("a letter that came late"), "push lost"),
        Scene("lost_letter", _picture("a letter that never came"), "never pushed", "failed"),
    ]


def paused_scenes() -> list[Scene]:
    """They wait while their kind is paused, and then start one at a time, the last one first."""
    return [
        *(
            Scene("postcard", _picture(f"a postcard from {place}"), "kind paused")
            for place in ("Rome", "Lima", "Oslo")
        ),
        Scene("postcard", _picture("an urgent postcard"), "kind paused, urgent", priority=100),
    ]
