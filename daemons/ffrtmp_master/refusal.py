"""A request that is not granted: what the API turns into a Problem."""

from __future__ import annotations


class Refusal(Exception):
    """`status` is an HTTP status (4xx, 503); `detail` what is wrong, `hint` what to do, `choices` the possible meanings."""

    def __init__(self, status: int, detail: str, *, hint: str = "", choices: tuple[str, ...] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.hint = hint
        self.choices = choices

    def of(self, what: str) -> Refusal:
        """The same refusal, saying what it is about ("job 3 of 10")."""
        return Refusal(self.status, f"{what}: {self.detail}", hint=self.hint, choices=self.choices)
