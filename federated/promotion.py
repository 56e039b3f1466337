"""Whether a candidate replaces the champion: the plan's gates, and the decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import field_validator

from federated.component import Component
from federated.gates import AnyGate, Gate, Scores, Verdict
from federated.randomness import generator


class Promotion(Component):
    """The gates that a candidate must pass to replace the champion, and whether a person must approve it too."""

    gates: tuple[AnyGate, ...] = ()
    approval: bool = False

    @field_validator("gates")
    @classmethod
    def _each_once(cls, gates: tuple[AnyGate, ...]) -> tuple[AnyGate, ...]:
        names = [gate.name for gate in gates]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"expected each gate once, got {', '.join(twice)} more than once; keep the strictest")
        return gates


class Decision(NamedTuple):
    """The verdicts of all gates, and whether every one passed."""

    passed: bool
    verdicts: tuple[Verdict, ...]

    def as_markdown(self) -> str:
        """A table with one row a gate."""
        head = ("gate", "verdict", "measured", "allowed", "reason")
        rows = [(v.gate, "passed" if v.passed else "refused", v.measured, v.allowed, v.reason) for v in self.verdicts]
        return "\n".join(map(_table_row, [head, ["---"] * len(head), *rows]))


def judge_all(gates: Sequence[Gate], candidate: Scores, champion: Scores | None, seed: int) -> Decision:
    """All verdicts, in the order of ``gates``: a function of its arguments alone. Without gates, it passes.

    What was trained under attack is refused in any case. A gate draws from a stream of its own, so the other gates do
    not change its verdict. Raises what ``Gate.judge`` raises.
    """
    verdicts = tuple(gate.judge(candidate, champion, generator(seed, 0, f"gate-{gate.name}")) for gate in gates)
    if candidate.attacked:
        verdicts += (Verdict("no_attacks", False, "attacks", "none", "it was trained under attack, in a simulation"),)
    return Decision(all(verdict.passed for verdict in verdicts), verdicts)


def _table_row(cells: Sequence[str]) -> str:
    # A client's name may hold what would end the cell.
    safe = [" ".join(cell.split()).replace("|", r"\|") for cell in cells]
    return f"| {' | '.join(safe)} |"
