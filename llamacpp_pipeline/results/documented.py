"""The base of everything that is written for others to read."""

from __future__ import annotations

from pydantic import ConfigDict

from llamacpp_pipeline.stages.base import Frozen


class Documented(Frozen):
    """A value whose fields carry their description into the JSON schema; never NaN."""

    model_config = ConfigDict(use_attribute_docstrings=True, allow_inf_nan=False)
