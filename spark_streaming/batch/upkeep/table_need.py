"""How much a table needs maintenance: pure, by the commits that it had and by a clock that is given."""

from __future__ import annotations

from dataclasses import dataclass, field

# A reader that opens a table reads one object after the other for the commits since the log's last checkpoint. At 50 changes a
# second over 8 tables, a Trino answer took p50 0.37, p95 0.80 s with 25 commits and 0.15, 0.29 s with 10 (tests/bench).
CHECKPOINT_COMMITS = 10
# Looking for small files costs little, joining them rewrites them.
JOIN_COMMITS = 20
RETRY_S = 60.0
CLEAN_PAUSE_S_MIN = 60.0
# A table without commits still has versions that grow too old (`[time_travel]`), rows too: looked at so often.
QUIET_PAUSE_S = 6 * 3600.0


@dataclass(frozen=True)
class Steps:
    """The steps that are due."""

    join: bool = False
    checkpoint: bool = False
    clean: bool = False

    def __bool__(self) -> bool:
        return self.join or self.checkpoint or self.clean


@dataclass
class Need:
    """What happened to a table since its last maintenance; times are seconds of one clock.

    Args:
        pause_s: the least time between two clean-ups. window_s: for how long every old version stays.
        changed_at: when the table had its last commit; when it was first seen, as long as none is known.
        join_commits: commits from which on its small files are looked at.
        polled: whether its commits are not counted, so that only a look at the table tells of them.
    """

    pause_s: float
    window_s: float
    changed_at: float
    join_commits: int = JOIN_COMMITS
    polled: bool = False
    version: int = -1
    to_join: int = 0
    to_checkpoint: int = 0
    looked_at: float = field(init=False)
    # When the last clean-up began that went through.
    cleaned_at: float = float("-inf")
    retry_at: float = float("-inf")
    due_since: float | None = None

    def __post_init__(self) -> None:
        self.looked_at = self.changed_at

    @classmethod
    def of(cls, retention_minutes: float, now: float) -> Need:
        """The need of a table whose old versions stay for some minutes."""
        window_s = retention_minutes * 60.0
        return cls(max(CLEAN_PAUSE_S_MIN, window_s / 3), window_s, now)

    def changed(self, now: float) -> None:
        """Note a commit."""
        self.changed_at = now
        self.to_join += 1
        self.to_checkpoint += 1

    def has_new(self, version: int, now: float) -> bool:
        """Whether a polled table, found at `version`, has anything to clean."""
        if version != self.version:
            self.version, self.changed_at = version, now
        return not self.settled() or now - self.cleaned_at >= QUIET_PAUSE_S

    def settled(self) -> bool:
        """Whether the last clean-up began so long after the last commit that it left nothing behind."""
        return self.cleaned_at > self.changed_at + self.window_s

    def score(self, now: float) -> float:
        """The need as a number: from 1 on, something is due; the greatest has its turn first."""
        if now < self.retry_at:
            return 0.0
        commits = max(self.to_join / self.join_commits, self.to_checkpoint / CHECKPOINT_COMMITS)
        return max(commits, (now - self.looked_at) / self._clean_after_s())

    def observe(self, now: float) -> None:
        """Note since when something is due."""
        if self.score(now) < 1:
            self.due_since = None
        elif self.due_since is None:
            self.due_since = now

    def due(self, now: float) -> Steps:
        """The steps whose turn it is; they count as begun."""
        if self.score(now) < 1:
            return Steps()
        clean = now - self.looked_at >= self._clean_after_s()
        # A clean-up writes a checkpoint, and a table that has gone quiet never gathers enough commits.
        return Steps(
            clean or self.to_join >= self.join_commits,
            not clean and self.to_checkpoint >= CHECKPOINT_COMMITS,
            clean,
        )

    def done(self, steps: Steps, began: float, *, cleaned: bool = True) -> None:
        """Note that all of these steps went through; `cleaned`: whether there was something to clean."""
        self.due_since = None
        if steps.join:
            self.to_join = 0
        if steps.checkpoint or steps.clean:
            self.to_checkpoint = 0
        if steps.clean:
            self.looked_at = began
            self.cleaned_at = began if cleaned else self.cleaned_at

    def failed(self, now: float) -> None:
        """Note that a step failed: the next try is in RETRY_S."""
        self.due_since, self.retry_at = None, now + RETRY_S

    def _clean_after_s(self) -> float:
        """How long after the last look the next cleaning is due."""
        if self.polled:
            return self.pause_s
        if self.settled():
            return QUIET_PAUSE_S
        if self.to_checkpoint:
            return self.pause_s
        # Nothing came since: wait until the last of it is old, so that one cleaning is enough.
        return max(self.pause_s, self.changed_at + self.window_s + 1 - self.looked_at)
