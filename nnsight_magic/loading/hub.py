"""Ask the model hub whether it knows a name, in bounded time.

transformers asks the hub file by file and tries each again and again: without a network that is
half a minute of waiting and a page of log lines. One request beforehand tells what to expect.
"""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Any

from nnsight_magic.errors import HubAnswer

PATIENCE = 8.0
"""Seconds to wait for the hub's answer, the look-up of its address included."""


def ask_hub(name: str, **options) -> None:
    """Return where the hub has a model `name` that may be read; a `HubAnswer` is raised otherwise.

    Args:
        options: `revision`, `subfolder`, `token` as `from_pretrained` takes them.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise HubAnswer("HF_HUB_OFFLINE is set, so the hub was not asked", reached=False)
    answer: list[Exception | None] = []

    def ask() -> None:
        # Older versions of huggingface_hub try again and log each time; in this thread silently.
        log = logging.getLogger("huggingface_hub.utils._http")
        mine = threading.get_ident()

        def from_elsewhere(record: logging.LogRecord) -> bool:
            return record.thread != mine

        log.addFilter(from_elsewhere)
        try:
            _request(name, **options)
            answer.append(None)
        except Exception as problem:
            answer.append(problem)
        finally:
            log.removeFilter(from_elsewhere)

    # A thread, because a name look-up cannot be given a time limit.
    thread = threading.Thread(target=ask, daemon=True, name="ask-hub")
    thread.start()
    thread.join(PATIENCE)
    if not answer:
        raise HubAnswer(f"no answer from {constants.ENDPOINT} in {PATIENCE:.0f} s", reached=False)
    if answer[0] is not None:
        raise _explained(answer[0], name)


def _request(name: str, revision=None, subfolder=None, token=None) -> None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    url = hf_hub_url(name, "config.json", revision=revision, subfolder=subfolder)
    try:
        get_hf_file_metadata(url, token=token, timeout=PATIENCE / 2)
    except EntryNotFoundError:
        pass  # the model is there; what it lacks, loading says better


def _explained(problem: Exception, name: str) -> HubAnswer:
    from huggingface_hub import constants, errors

    if isinstance(problem, errors.GatedRepoError):
        return HubAnswer(
            f"the hub has {name}, but asks you to accept its terms and to log in", True
        )
    if isinstance(problem, errors.RevisionNotFoundError):
        return HubAnswer(f"the hub has {name}, but not that revision", True)
    if isinstance(problem, errors.RepositoryNotFoundError):
        return HubAnswer("the hub has no model of that name that you may read", True)
    if isinstance(problem, errors.HfHubHTTPError):
        status = getattr(problem.response, "status_code", "an error")
        return HubAnswer(f"the hub answered {status}", True)
    first = (str(problem).strip() or type(problem).__name__).splitlines()[0]
    return HubAnswer(f"{constants.ENDPOINT} cannot be reached ({first[:120]})", False)


def hub_has(name: str, file: str, revision=None, subfolder=None, token=None, **_: Any) -> bool:
    """Whether the hub's model `name` has a file; yes where it does not answer."""
    from huggingface_hub import file_exists

    path = f"{subfolder}/{file}" if subfolder else file
    try:
        return file_exists(name, path, revision=revision, token=token)
    except Exception:
        return True


def cached_file(
    name: str, file: str, revision=None, subfolder=None, cache_dir=None, **_: Any
) -> Path | None:
    """Where a file lies that was fetched from the hub before."""
    from huggingface_hub import try_to_load_from_cache

    path = f"{subfolder}/{file}" if subfolder else file
    cached = try_to_load_from_cache(name, path, cache_dir=cache_dir, revision=revision)
    return Path(cached) if isinstance(cached, str) else None


def cached_names() -> list[str]:
    """Names of the models that were fetched from the hub before."""
    from huggingface_hub import constants

    cache = Path(os.environ.get("HF_HUB_CACHE") or constants.HF_HUB_CACHE)
    if not cache.is_dir():
        return []
    return sorted(f.name[len("models--") :].replace("--", "/") for f in cache.glob("models--*"))
