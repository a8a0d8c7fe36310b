"""Callers who want revisions applied, and judge every answer that they get."""

import threading
import time
from random import Random
from typing import Any

import httpx

from tests.servers import APPLY, until
from tests.soak.diary import Diary
from tests.soak.services import Fleet, Instance

_PATIENCE_S = 60
"""How long a caller waits for an answer: far longer than one should take, whatever is done to the service."""
_KINDS = {(409, "lock-held"), (503, "lock-timeout"), (503, "lock-lost"), (503, "database-unavailable")}
"""The problems that faults may cause, each of which says that the call may be repeated."""


class Callers:
    """Everybody who calls, and what they know."""

    def __init__(self, fleet: Fleet, diary: Diary) -> None:
        self.reached = 0
        """How many revisions are applied, as far as answers have told."""
        self.claims: dict[str, list[str]] = {}
        """What a run has applied, as its answer said, by the run's id."""
        self._fleet = fleet
        self._diary = diary
        self._client = httpx.Client(timeout=_PATIENCE_S, limits=httpx.Limits(max_keepalive_connections=0))

    def call(self, revisions: list[str], dice: Random, peace: threading.Event) -> None:
        """One caller: call for a few revisions more, or for all, again and again."""
        while not peace.wait(dice.uniform(0, 0.3)):
            instance, steps, wait_s = dice.choice(self._fleet.instances), dice.choice(_STEPS), dice.uniform(0, 3)
            target = revisions[min(self.reached + steps, len(revisions)) - 1]
            answer = self._post(instance, {"target": target, "lock_wait_s": round(wait_s, 1)})
            if answer is not None and answer.status_code == 200:
                self.reached = max(self.reached, revisions.index(max(answer.json()["to"])) + 1)

    def finish(self, *, seconds: float) -> None:
        """Call for everything, until it is done."""
        instance = self._fleet.instances[0]

        def is_done() -> bool:
            answer = self._post(instance, {"lock_wait_s": 1})
            return answer is not None and answer.status_code == 200

        until(is_done, seconds=seconds, every=0.2, what="the answer 200 after the faults")

    def close(self) -> None:
        self._client.close()

    def _post(self, instance: Instance, body: dict[str, Any]) -> httpx.Response | None:
        """An answer, which has been judged; None where the service was killed before it came."""
        life, began = instance.life, time.monotonic()
        headers = {**APPLY, "X-Request-ID": f"{instance.name}:{time.monotonic_ns()}"}
        try:
            answer = self._client.post(f"{instance.service.url}/migrate", json=body, headers=headers)
        except httpx.TransportError as error:
            was_killed = life % 2 == 1 or instance.life != life
            if was_killed and not isinstance(error, httpx.TimeoutException):
                self._diary.counts["calls to the dead"] += 1
                return None
            raise AssertionError(f"{instance.name}, which is alive, did not answer {body}: {error!r}") from error
        took_s = time.monotonic() - began
        self._diary.longest_answer_s = max(self._diary.longest_answer_s, took_s)
        self._judge(answer, f"{body}: {answer.status_code} {answer.text}, in {took_s:.1f} s", body.get("target", ""))
        return answer

    def _judge(self, answer: httpx.Response, said: str, target: str) -> None:
        told = answer.json()
        slug = told.get("type", "").partition("#")[2]
        if slug:
            self._diary.count(f"{answer.status_code} {slug}", told["detail"])
            assert (answer.status_code, slug) in _KINDS, said
            assert told["retryable"], said
            assert "Retry-After" in answer.headers, said
        else:
            self._diary.count(f"{answer.status_code} {told['outcome']}", f"{told['from']} to {told['to']}")
            assert answer.status_code == 200, said
            assert max(told["to"]) >= target, said
        if "applied" in told and told["run_id"]:
            self.claims[told["run_id"]] = [step["revision"] for step in told["applied"]]
        for warning in told.get("warnings", []):
            self._diary.note(warning)
            self._diary.counts["leftovers ended"] += warning.startswith("Ended backend")
            self._diary.counts["broken indexes dropped"] += warning.startswith("Dropped the INVALID index")


_STEPS = (1, 2, 3, 5, 8, 13, 50)
"""How many revisions more a caller asks for."""
