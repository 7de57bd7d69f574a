"""What a finished run claims: one word about the bits, another about what the model computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from transferpipe.planning.lint.settings import HEADS_NOT_STORED
from transferpipe.planning.model import SettingsCompared
from transferpipe.prove.parity.result import PASS, Parity
from transferpipe.text.collapse import counted

Weights = Literal["pass", "fail", "inconclusive"]
Function = Literal["not checked", "pass", "fail", "inconclusive"]


@dataclass(frozen=True, repr=False)
class Verdict:
    """The two parts of a verdict. Nothing compared is never a pass.

    Attributes:
        weights: whether every weight of the result was read back and is, bit for bit, what the plan says.
        function: whether the model computes what the original computes; only a forward pass of both can tell.
        compared: how many pairs of layers had their settings compared.
        differing: how many of those differ in a setting that changes what they compute.
        reason: what `function` rests on, or why it is open.
        not_compared: how many pairs of layers had not, as of classes that nobody knows.
    """

    weights: Weights
    function: Function = "not checked"
    compared: int = 0
    differing: int = 0
    reason: str = ""
    not_compared: int = 0

    def __repr__(self) -> str:
        return f"<Verdict {self}>"

    def __str__(self) -> str:
        return f"weights: {self.weights}, function: {self.function} ({self.settings})"

    @property
    def settings(self) -> str:
        """The comparison of settings in words.

        >>> Verdict("pass", compared=4, differing=1).settings
        'settings of 4 paired layers compared, 1 differs'
        >>> Verdict("pass", compared=4, not_compared=2).settings
        'settings of 4 of 6 paired layers compared, none differs'
        """
        if not self.compared:
            return "no settings compared"
        whole = self.compared + self.not_compared
        layers = (
            f"{self.compared:,} of {whole:,} paired layers" if self.not_compared else counted(whole, "paired layer")
        )
        differ = {0: "none differs", 1: "1 differs"}.get(self.differing, f"{self.differing:,} differ")
        return f"settings of {layers} compared, {differ}"

    def lines(self, checked: str) -> tuple[str, str]:
        """Return a line for each part; `checked` says what was compared of the weights.

        >>> Verdict("pass").lines("2 weights read back")
        ('weights: pass, 2 weights read back', 'function: not checked, no settings compared')
        """
        because = [text for text in (self.reason, self.settings) if text]
        return f"weights: {self.weights}, {checked}", f"function: {self.function}, {'; '.join(because)}"

    def to_data(self) -> dict[str, Any]:
        """Return the verdict as in manifest.json."""
        settings = {"compared": self.compared, "differing": self.differing}
        if self.not_compared:
            settings["not_compared"] = self.not_compared
        reason = {"reason": self.reason} if self.reason else {}
        return {"weights": self.weights, "function": self.function, **reason, "settings": settings}


def verdict_of(weights: int, settings: SettingsCompared) -> Verdict:
    """Return the verdict of a run in which so many weights were read back and none differed; no model was run."""
    attentions = settings.not_compared.get(HEADS_NOT_STORED, 0)
    # The one setting that decides what every output is, and that nothing in such a source can contradict.
    reason = (
        f"the source does not tell the number of heads of {counted(attentions, 'attention layer')}"
        if attentions
        else ""
    )
    return Verdict(
        "pass" if weights else "inconclusive",
        compared=settings.compared,
        differing=settings.differing,
        reason=reason,
        not_compared=sum(settings.not_compared.values()),
    )


def with_parity(verdict: Verdict, parity: Parity | None) -> Verdict:
    """Return the verdict with what running the model found of its function; as it is where nobody asked."""
    if parity is None:
        return verdict
    reason = parity.agreement if parity.verdict == PASS else parity.reason
    return replace(verdict, function=parity.verdict, reason=reason)


def verdict_from_data(data: Any) -> Verdict:
    """Return the verdict that `Verdict.to_data` wrote, or that of an earlier version, which knew only the weights.

    Raises:
        KeyError, TypeError, ValueError: the data is not that of a verdict.
    """
    if isinstance(data, str):
        data = {"weights": data}
    if not isinstance(data, Mapping):
        raise TypeError(f"a verdict is a mapping, not {type(data).__name__}")
    weights, function = data["weights"], data.get("function", "not checked")
    if weights not in get_args(Weights) or function not in get_args(Function):
        raise ValueError(f"no verdict is {weights!r} and {function!r}")
    settings = data.get("settings", {})
    compared, differing, others = (int(settings.get(key, 0)) for key in ("compared", "differing", "not_compared"))
    return Verdict(weights, function, compared, differing, str(data.get("reason", "")), others)


def describe_compared(weights: int) -> str:
    """Return what the weights' part of a verdict rests on."""
    return f"{counted(weights, 'weight')} read back and compared bit for bit"
