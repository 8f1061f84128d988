"""The only module that writes to the Hub: what would change there, and the change in one commit."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.tqdm import disable_progress_bars

from llamacpp_pipeline.errors import PublishError
from llamacpp_pipeline.report.hub_refusal import http_status, refusal
from llamacpp_pipeline.report.push_plan import PushPlan, Target, There, plan_against
from llamacpp_pipeline.report.release import Release
from llamacpp_pipeline.results.redact import Redactor

LIBRARY = "llamacpp-pipeline"
SHORT = 12
# What the client raises for a request that never reached the Hub is below the base class of its
# own errors; that class is of one HTTP library or another, as the client's version has it.
NoAnswer: type[BaseException] = HfHubHTTPError.__bases__[0]


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What a push did."""

    commit: str
    tag: str
    url: str


class Hub:
    """The Hub, or what HF_ENDPOINT names instead, with the user's token where there is one."""

    def __init__(self, redactor: Redactor) -> None:
        self._token = get_token()
        secrets = (*redactor.secrets, *([self._token] if self._token else []))
        self._redactor = Redactor(home=redactor.home, host=redactor.host, secrets=secrets)
        endpoint = os.environ.get("HF_ENDPOINT")
        self._api = HfApi(endpoint=endpoint, library_name=LIBRARY, token=self._token or False)

    @property
    def redactor(self) -> Redactor:
        """Knows the token, so that it can be kept out of every text."""
        return self._redactor

    def plan(self, release: Release, target: Target) -> PushPlan:
        """Compare the folder with what is there, by digests.

        Raises:
            PublishError: where the Hub cannot be asked.

        """
        with self._errors(target):
            try:
                info = self._api.model_info(
                    target.repo, revision=target.branch, files_metadata=True
                )
            except RevisionNotFoundError:
                return plan_against({}, release, target, exists=True, commit=None)
            except RepositoryNotFoundError as error:
                if http_status(error) == 401 and self._token is not None:
                    self._api.whoami()  # a token that is no good says so here
                return plan_against({}, release, target, exists=False, commit=None)
        there = {
            sibling.rfilename: There(
                size_bytes=sibling.size or 0,
                sha256=sibling.lfs.sha256 if sibling.lfs else None,
                git_oid=sibling.blob_id,
            )
            for sibling in info.siblings or ()
        }
        return plan_against(there, release, target, exists=True, commit=info.sha)

    def push(self, plan: PushPlan, release: Release) -> Pushed:
        """Do it: one commit with everything, then the tag. What is there already does not travel.

        Raises:
            PublishError: where the Hub refuses; what was uploaded by then need not be again.

        """
        self._refuse_no_token()
        target = plan.target
        disable_progress_bars()
        with self._errors(target):
            if not plan.exists:
                self._api.create_repo(target.repo, private=target.private, exist_ok=True)
            if target.gated is not None:
                self._api.update_repo_settings(target.repo, gated=target.gated)
            commit = plan.commit if plan.is_idle else self._committed(plan, release)
            tag = self._tagged(target.repo, commit or "", release)
        url = f"{self._api.endpoint}/{target.repo}"
        return Pushed(commit=commit or "", tag=tag, url=url)

    def _committed(self, plan: PushPlan, release: Release) -> str:
        target = plan.target
        if plan.exists and plan.commit is None:
            self._api.create_branch(target.repo, branch=target.branch)
        manifest = release.manifest
        info = self._api.create_commit(
            target.repo,
            operations=list(operations(plan)),
            commit_message=f"{manifest.name} by {LIBRARY} {manifest.pipeline_version}",
            commit_description=f"llama.cpp BuildId {release.build_id}",
            revision=target.branch,
            parent_commit=plan.commit,
        )
        return str(info.oid)

    def _tagged(self, repo: str, commit: str, release: Release) -> str:
        """Tag the commit with the BuildId; a tag that is there is never moved."""
        tags = {tag.name: tag.target_commit for tag in self._api.list_repo_refs(repo).tags}
        tag = free_tag(f"build-{release.build_id[:SHORT]}", commit, tags)
        if tag not in tags:
            message = f"llama.cpp BuildId {release.build_id}"
            self._api.create_tag(repo, tag=tag, tag_message=message, revision=commit)
        return tag

    def _refuse_no_token(self) -> None:
        if self._token is None:
            raise PublishError(
                "there is no token to write to the Hub with",
                hint="set HF_TOKEN to a token with write access, or run `hf auth login`",
            )

    @contextmanager
    def _errors(self, target: Target) -> Iterator[None]:
        try:
            yield
        except (HfHubHTTPError, NoAnswer, OfflineModeIsEnabled, ValueError, RuntimeError) as error:
            raise refusal(error, target, self._redactor) from None  # a cause may hold the token


def operations(plan: PushPlan) -> Iterator[CommitOperationAdd | CommitOperationDelete]:
    """The commit."""
    for change in plan.changes:
        if change.what in ("new", "changed") and change.local is not None:
            yield CommitOperationAdd(path_in_repo=change.name, path_or_fileobj=change.local.path)
        elif change.what == "goes":
            yield CommitOperationDelete(path_in_repo=change.name, is_folder=False)


def free_tag(name: str, commit: str, tags: Mapping[str, str]) -> str:
    """The tag of that name that is at the commit, or the first number that is free."""
    tag, at = name, 1
    while tag in tags and tags[tag] != commit:
        at += 1
        tag = f"{name}.{at}"
    return tag
